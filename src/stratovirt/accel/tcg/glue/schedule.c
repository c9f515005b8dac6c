/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The vCPU thread: runs the engines in turns, and sleeps when none has anything to do.
 *
 * The law: no vCPU waits longer than a slice for each other one that can run. A slice ends early when its vCPU
 * halts or spins (PAUSE), and when a halted one is woken.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

enum { SLICE_NS = 1000000 }; /* 1 ms: what the timer costs is below noise, what others wait is bearable */

/* Whether the vCPU has something to run; a halted one, whether an interrupt wakes it. */
static bool runnable(struct vcpu *v)
{
    uint32_t events = __atomic_load_n(&v->events, __ATOMIC_SEQ_CST);

    if (events & EVENT_INIT)
        return true;
    switch (v->state) {
    case WAITING_FOR_SIPI:
        return events & EVENT_STARTUP;
    case RUNNABLE:
        return true;
    case HALTED:
        return events & EVENT_NMI || (events & EVENT_INTERRUPT && FIELD(uint64_t, v->env, ENV_EFLAGS) & FLAG_IF);
    }
    return false;
}

static struct vcpu *next_in_turn(machine *m, struct vcpu *after)
{
    for (int i = 1; i <= m->vcpu_count; i++) {
        struct vcpu *v = &m->vcpus[(after->index + i) % m->vcpu_count];
        if (runnable(v))
            return v;
    }
    return NULL;
}

static bool another_is_runnable(struct vcpu *v)
{
    struct vcpu *next = next_in_turn(v->machine, v);

    return next && next != v;
}

/* A vCPU that was halted and has an interrupt now does not wait for the end of a slice. */
static bool another_wakes_up(struct vcpu *v)
{
    machine *m = v->machine;

    for (int i = 0; i < m->vcpu_count; i++)
        if (&m->vcpus[i] != v && m->vcpus[i].state == HALTED && runnable(&m->vcpus[i]))
            return true;
    return false;
}

/* Ends the current vCPU's turn. In its engine's loop only, between two blocks. */
static void end_turn(struct vcpu *v)
{
    FIELD(bool, v->uc, UC_STOP_REQUEST) = true;
    FIELD(bool, v->cpu, CPU_EXIT_REQUEST) = true;
}

static bool turn_is_over(struct vcpu *v)
{
    machine *m = v->machine;

    if (__atomic_load_n(&m->stop, __ATOMIC_SEQ_CST) || __atomic_load_n(&m->failed, __ATOMIC_SEQ_CST) ||
        __atomic_load_n(&v->events, __ATOMIC_SEQ_CST) & EVENT_INIT || another_wakes_up(v))
        return true;
    if (!another_is_runnable(v))
        return false;
    if (m->slice_end == NEVER)
        m->slice_end = host_nanoseconds() + SLICE_NS;
    return host_nanoseconds() >= m->slice_end;
}

/* For PAUSE, which leaves the engine's loop right afterwards. */
void yield_turn(struct vcpu *v)
{
    if (another_is_runnable(v))
        FIELD(bool, v->uc, UC_STOP_REQUEST) = true;
}

/* Called by the engine between two blocks, when its interrupt_request is not 0. */
INTERPOSED bool x86_cpu_exec_interrupt_x86_64(CPUState *cpu, int request)
{
    struct vcpu *v = running();
    uint32_t *own_request = &FIELD(uint32_t, cpu, CPU_INTERRUPT_REQUEST);

    if (!v)
        return unicorn.x86_cpu_exec_interrupt(cpu, request);
    if (request & REQUEST_ATTENTION) {
        __atomic_and_fetch(own_request, ~REQUEST_ATTENTION, __ATOMIC_SEQ_CST);
        attend(v->machine);
        if (turn_is_over(v)) {
            end_turn(v);
            return false;
        }
        arm_timer(v->machine);
    }
    /* While events are pending, the engine asks again whenever the guest may have enabled interrupts. */
    if (!__atomic_load_n(&v->events, __ATOMIC_SEQ_CST)) {
        __atomic_and_fetch(own_request, ~REQUEST_HARD, __ATOMIC_SEQ_CST);
        return false;
    }
    __atomic_or_fetch(own_request, REQUEST_HARD, __ATOMIC_SEQ_CST);
    return deliver_event(v);
}

/* Whether a halted vCPU that is said to have an interrupt really has: it may be gone again. */
static bool still_pending(struct vcpu *v)
{
    if (v->state != HALTED || __atomic_load_n(&v->events, __ATOMIC_SEQ_CST) & EVENT_NMI)
        return true;
    __atomic_and_fetch(&v->events, ~EVENT_INTERRUPT, __ATOMIC_SEQ_CST);
    if (!exit_pending(v->machine->exits, v->index))
        return false;
    __atomic_or_fetch(&v->events, EVENT_INTERRUPT, __ATOMIC_SEQ_CST);
    return true;
}

static void set_place(machine *m, enum place place)
{
    __atomic_store_n(&m->place, place, __ATOMIC_SEQ_CST);
}

/* One turn of a vCPU. */
static int take_turn(struct vcpu *v)
{
    machine *m = v->machine;
    int error = 0;

    m->current = v;
    use_jumps(v);
    v->state = RUNNABLE;
    m->slice_end = another_is_runnable(v) ? host_nanoseconds() + SLICE_NS : NEVER;
    arm_timer(m);
    if (__atomic_load_n(&v->events, __ATOMIC_SEQ_CST))
        __atomic_or_fetch(&FIELD(uint32_t, v->cpu, CPU_INTERRUPT_REQUEST), REQUEST_HARD, __ATOMIC_SEQ_CST);
    set_place(m, IN_GUEST);
    if (!__atomic_load_n(&m->poked, __ATOMIC_SEQ_CST))
        error = unicorn.uc_emu_start(v->uc, FIELD(uint64_t, v->env, ENV_EIP), 0, 0, 0);
    else
        FIELD(bool, v->uc, UC_STOP_REQUEST) = true;
    set_place(m, OUTSIDE);
    if (!error && FIELD(uint32_t, v->cpu, CPU_HALTED) && !FIELD(bool, v->uc, UC_STOP_REQUEST))
        v->state = HALTED;
    return error;
}

static bool can_be_woken(struct vcpu *v)
{
    return v->state == HALTED && FIELD(uint64_t, v->env, ENV_EFLAGS) & FLAG_IF;
}

static bool halted_forever(machine *m)
{
    for (int i = 0; i < m->vcpu_count; i++)
        if (can_be_woken(&m->vcpus[i]))
            return false;
    return true;
}

/* Sleeps until a timer expires or somebody pokes. */
static void idle(machine *m)
{
    struct pollfd wake = {.fd = m->wake, .events = POLLIN};
    struct timespec timeout;
    uint64_t count;
    int64_t left = 0;

    if (m->deadline != NEVER) {
        left = m->deadline - tcg_nanoseconds(m);
        left = left > 0 ? left : 0;
        timeout = (struct timespec){left / NS_PER_SECOND, left % NS_PER_SECOND};
    }
    set_place(m, IDLE);
    if (!__atomic_load_n(&m->poked, __ATOMIC_SEQ_CST))
        ppoll(&wake, 1, m->deadline == NEVER ? NULL : &timeout, NULL);
    set_place(m, OUTSIDE);
    if (read(m->wake, &count, sizeof count) < 0 && errno != EAGAIN)
        abort();
}

static enum tcg_end engine_error(struct vcpu *v, int error, const char *text)
{
    v->machine->error_cpu = v->index;
    v->machine->error_text = error ? unicorn.uc_strerror(error) : text;
    return TCG_END_ENGINE;
}

/* Why a turn ended that nobody asked to end; TCG_END_STOPPED for a reason to go on. */
static enum tcg_end judge(struct vcpu *v, int error)
{
    if (error)
        return engine_error(v, error, NULL);
    if (v->state == HALTED || FIELD(bool, v->uc, UC_STOP_REQUEST))
        return TCG_END_STOPPED;
    if (FIELD(int, v->env, ENV_OLD_EXCEPTION) == EXCEPTION_DF) /* it could not be delivered */
        return TCG_END_TRIPLE_FAULT;
    return engine_error(v, 0, "the engine stopped without a reason");
}

static enum tcg_end run_in_turns(machine *m)
{
    struct vcpu *v = m->current ? m->current : &m->vcpus[m->vcpu_count - 1];
    enum tcg_end end;

    for (;;) {
        attend(m);
        if (__atomic_exchange_n(&m->failed, 0, __ATOMIC_SEQ_CST))
            return TCG_END_FAILED;
        if (__atomic_exchange_n(&m->stop, 0, __ATOMIC_SEQ_CST))
            return TCG_END_STOPPED;
        struct vcpu *next = next_in_turn(m, v);
        if (!next) {
            if (halted_forever(m))
                return TCG_END_HALTED_FOREVER;
            idle(m);
            continue;
        }
        v = next;
        if (v->index == 0 && __atomic_load_n(&v->events, __ATOMIC_SEQ_CST) & EVENT_INIT)
            return TCG_END_TRIPLE_FAULT;
        change_state(v);
        if (!runnable(v) || !still_pending(v))
            continue;
        end = judge(v, take_turn(v));
        if (end != TCG_END_STOPPED)
            return end;
    }
}

enum tcg_end tcg_run(machine *m)
{
    enum tcg_end end;

    __atomic_store_n(&m->thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    if (!create_timer(m))
        return engine_error(&m->vcpus[0], 0, "the host has no timer for it");
    here = m;
    for (int i = 0; i < m->vcpu_count; i++)
        flush_jumps(&m->vcpus[i], true); /* what the owner flushed meanwhile did not count */
    m->deadline_changed = 1;
    end = run_in_turns(m);
    here = NULL;
    use_jumps(NULL);
    timer_delete(m->timer);
    return end;
}
