/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One machine: up to MAX_VCPUS engines that one host thread runs in turns.
 *
 * The law: engines are touched only by the thread in tcg_run(), or by the owner while nobody is in it.
 * Other threads leave word in atomic fields and poke() that thread.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "native.h"
#include "unicorn.h"

#include "interface.h"

#include "callbacks.h"

#define INTERPOSED __attribute__((visibility("default"))) /* found by libunicorn before its own definition */

enum { NS_PER_SECOND = 1000000000 };
enum { LOCAL_MAPPINGS = 64 };
enum { MAX_VCPUS = 16, MAX_REGIONS = 8, PAGE_SIZE = 4096, IRQ_LINES = 24 };
static const int64_t NEVER = INT64_MAX;

enum vcpu_state { WAITING_FOR_SIPI, RUNNABLE, HALTED };
enum { EVENT_INTERRUPT = 1, EVENT_NMI = 2, EVENT_INIT = 4, EVENT_STARTUP = 8 };

/* Pages of the lower half that the kernel's tables of the engine map; unlisted: there are more, or others. */
struct local_mappings { int count; bool unlisted; uint64_t pages[LOCAL_MAPPINGS]; };

struct vcpu {
    machine *machine;
    int index;
    uc_engine *uc;
    CPUState *cpu;
    CPUX86State *env;
    enum vcpu_state state;
    uint32_t events; /* atomic */
    uint8_t startup_vector;
    uint64_t tsc_adjust;
    struct tcg_cpuid *cpuid;
    int cpuid_count;
    struct jumps *jumps;
    struct local_mappings local;
    bool writes_cr3;
};

struct ram { uint64_t gpa, size, ram_addr; char *host; };
struct hole { machine *machine; uint64_t gpa, size; };
struct page_range { uint64_t first, end; }; /* page numbers of ram_addr */
struct ioeventfd { int fd; uint64_t address; uint32_t size; bool any; uint64_t value; };

/* Where the vCPU thread is, so that others know how to reach it. */
enum place { OUTSIDE, IN_GUEST, IDLE };

struct machine {
    void *exits;
    struct vcpu vcpus[MAX_VCPUS];
    int vcpu_count;

    struct ram ram[MAX_REGIONS];
    struct hole holes[MAX_REGIONS];
    int ram_count, hole_count;
    struct native_ports ports;
    struct native_irq irqs[IRQ_LINES];
    struct native_written listener;
    int translating; /* atomic: code is being read that no mask shows yet */
    uint16_t *code_mask; /* per page of RAM: the vCPUs whose engines hold translated code of it */
    uint64_t pages;

    /* The vCPU thread's own. */
    struct vcpu *current;
    int64_t deadline;  /* guest ns of the next timer expiry */
    int64_t slice_end; /* host ns at which the current vCPU's turn is over, or NEVER */
    int64_t armed;     /* host ns at which the POSIX timer fires, or NEVER */
    timer_t timer;
    int error, error_cpu;
    const char *error_text;

    /* Words left by other threads (atomic). */
    int place;
    int thread; /* tid of the vCPU thread, for tgkill() */
    int poked;  /* there is something to attend to */
    int stop, failed;
    int deadline_changed;
    int wake; /* eventfd that ends idle() */

    pthread_mutex_t lock; /* of what follows */
    struct page_range *written;
    int written_count, written_room;
    struct ioeventfd *ioeventfds;
    int ioeventfd_count, ioeventfd_room;

    uint64_t tsc_hz, tsc_offset, frozen_tsc;
    bool frozen;
};

/* The machine that the calling thread runs; NULL on any other thread. */
extern __thread machine *here __attribute__((tls_model("initial-exec")));

static inline struct vcpu *running(void)
{
    return here ? here->current : NULL;
}

static inline struct vcpu *vcpu_of(CPUState *cpu)
{
    for (int i = 0; here && i < here->vcpu_count; i++)
        if (here->vcpus[i].cpu == cpu)
            return &here->vcpus[i];
    return NULL;
}

/* attention.c */
bool create_timer(machine *);
void arm_timer(machine *);
void poke(machine *);
void attend(machine *);

/* schedule.c */
void yield_turn(struct vcpu *);
INTERPOSED bool x86_cpu_exec_interrupt_x86_64(CPUState *, int request);

/* startup.c */
void change_state(struct vcpu *);

/* library.c */
const char *verify_engine(uc_engine *, const struct ram *);

/* instructions.c */
void load_segment(CPUX86State *, int segment, uint16_t selector, uint64_t base, uint32_t limit, uint32_t flags);

/* code.c */
void forget_written_code(machine *);
void forget_engines(machine *);
const uint64_t *guest_page(machine *, uint64_t gpa);

/* blocks.c */
bool create_jumps(struct vcpu *);
void forget_jumps(struct vcpu *);
void use_jumps(struct vcpu *); /* of the calling thread, or none */
void flush_jumps(struct vcpu *, bool upper);

/* tlb.c */
void note_mapping(struct vcpu *, uint64_t vaddr, int mmu_index);

/* exits.c */
void set_irq_line(void *machine, uint32_t gsi, bool level);
void memory_written(void *owner, uint64_t gpa, uint64_t length);
uint64_t hole_read(uc_engine *, uint64_t offset, unsigned size, void *hole);
void hole_write(uc_engine *, uint64_t offset, unsigned size, uint64_t value, void *hole);
bool deliver_event(struct vcpu *);
void deliver_exception(uc_engine *, uint32_t vector, void *data);
bool deliver_invalid_opcode(uc_engine *, void *data);

/* clock.c */
int64_t host_nanoseconds(void);
void update_tsc_offset(struct vcpu *);
