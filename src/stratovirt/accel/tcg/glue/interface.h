/* SPDX-License-Identifier: GPL-2.0-only */
/* What Python sees of the glue. Read by the C compiler and by cffi's cdef(), which knows no preprocessor. */

typedef struct machine machine;

enum tcg_end {
    TCG_END_STOPPED,        /* tcg_stop() */
    TCG_END_FAILED,         /* tcg_fail() */
    TCG_END_TRIPLE_FAULT,   /* or INIT of vCPU 0 */
    TCG_END_HALTED_FOREVER, /* no vCPU can be woken by an interrupt any more */
    TCG_END_ENGINE,         /* the engine gave up: tcg_error() */
};

/* A CPUID leaf as changed: register = (register & keep) | set, in the order EAX, EBX, ECX, EDX. */
struct tcg_cpuid {
    uint32_t leaf;
    int64_t subleaf; /* -1: all */
    uint32_t keep[4];
    uint32_t set[4];
};

struct tcg_entry {
    uint64_t rip, rsi, rsp, cr3, gdt_base;
    uint32_t gdt_limit;
    uint16_t code_selector, data_selector;
};

/* A vCPU out of its engine. `registers` is opaque: what this very build of the library keeps of a CPU. */
enum { TCG_REGISTERS_SIZE = 5568 };
enum { TCG_ACKNOWLEDGED_MORE = 256 };
struct tcg_vcpu_state {
    int run_state; /* 0 waiting for SIPI, 1 runnable, 2 halted */
    uint32_t events;
    uint8_t startup_vector;
    uint64_t tsc_adjust;
    char registers[TCG_REGISTERS_SIZE];
};

/* Loads libunicorn. NULL, or the reason why this library cannot be used. */
const char *tcg_load(const char *path);

/* One reading of CLOCK_MONOTONIC and the host's TSC, taken together as closely as possible. */
void tcg_sample_clock(int64_t *nanoseconds, uint64_t *tsc);

/* A machine without engines; exits is handed to each callback. NULL, with errno, if there is no room for it. */
machine *tcg_new(void *exits, int vcpus, uint64_t tsc_hz);
/* Closes the engines; words left afterwards are harmless. */
void tcg_close(machine *);
void tcg_free(machine *);
/* What every engine sees. Before the first tcg_power_on(), in ascending order of address. */
void tcg_add_ram(machine *, uint64_t gpa, uint64_t size, void *host);
void tcg_add_hole(machine *, uint64_t gpa, uint64_t size);
void tcg_set_cpuid(machine *, int cpu, const struct tcg_cpuid *, int count);
/* What it says then: EAX, EBX, ECX, EDX. After the first tcg_power_on(). */
void tcg_cpuid(machine *, int cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
/* One-byte accesses to these ports go to a struct native_device. 0, or -1 if there are too many. Before tcg_run(). */
int tcg_add_native(machine *, uint32_t first, uint32_t count, uintptr_t device);
/* Address of the struct native_irq of an input (0-23), which lives as long as the machine. */
uintptr_t tcg_native_irq(machine *, uint32_t gsi);
/* New engines, in power-on state; vCPU 0 runs, the others wait for SIPI. NULL, or what went wrong. */
const char *tcg_power_on(machine *);
void tcg_start(machine *, const struct tcg_entry *);

/* Runs guest code in the calling thread until something ends it. */
enum tcg_end tcg_run(machine *);
/* After TCG_END_ENGINE: what the engine said, and the vCPU that it said it of. */
const char *tcg_error(machine *, int *cpu);
/* id: of <unicorn/x86.h>. 0 after tcg_close(). */
uint64_t tcg_read_register(machine *, int cpu, int id);
bool tcg_halted(machine *, int cpu);

/* A whole vCPU but for the MSRs of tcg_read_msr(). Loaded into a machine that has not run since power-on. */
void tcg_save_vcpu(machine *, int cpu, struct tcg_vcpu_state *);
void tcg_load_vcpu(machine *, int cpu, const struct tcg_vcpu_state *);
/* An MSR that the library implements. */
uint64_t tcg_read_msr(machine *, int cpu, uint32_t index);
void tcg_write_msr(machine *, int cpu, uint32_t index, uint64_t value);

/* From any thread. */
void tcg_stop(machine *);
void tcg_fail(machine *);
void tcg_interrupt(machine *, int cpu);
void tcg_nmi(machine *, int cpu);
void tcg_init(machine *, int cpu);
void tcg_startup(machine *, int cpu, uint8_t vector);
void tcg_deadline_changed(machine *);
void tcg_memory_written(machine *, uint64_t gpa, uint64_t length);
/* Address of a struct native_written that does the same, and lives as long as the machine. */
uintptr_t tcg_native_written(machine *);
int tcg_add_ioeventfd(machine *, int fd, uint64_t address, uint32_t size, bool any, uint64_t value);
void tcg_remove_ioeventfd(machine *, int fd, uint64_t address, uint32_t size, bool any, uint64_t value);

/* Guest time: stands still between tcg_freeze() and tcg_thaw(), which come only while nothing runs. */
uint64_t tcg_tsc(machine *);
int64_t tcg_nanoseconds(machine *);
void tcg_freeze(machine *);
/* While frozen: what time stands at, and how fast it goes. */
void tcg_set_time(machine *, uint64_t tsc, uint64_t tsc_hz);
void tcg_thaw(machine *);
/* What IA32_TSC_ADJUST adds to the TSC that a vCPU reads. */
uint64_t tcg_tsc_adjust(machine *, int cpu);
void tcg_set_tsc_adjust(machine *, int cpu, uint64_t adjust);
