/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The vCPU thread: runs the engines in turns, waits when none has anything to do, and looks up whenever another
 * thread or a timer has poked it.
 *
 * The law: guest code is interrupted only by stores made on the vCPU thread itself, in its signal handler. The
 * library clears and reads the same fields without barriers, so stores from other threads could be lost.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { SLICE_NS = 1000000 };

__thread machine *here __attribute__((tls_model("initial-exec")));

/* The C library's first real-time signals are its own and valgrind's; the machine's KVM half uses SIGUSR1. */
static int attention_signal(void)
{
    return SIGRTMIN + 4;
}

/*
 * Makes the engine look up at the end of its current block. Three fields, because cpu_exec() reads the request,
 * clears the counter and then tests exit_request, and we may come between any two of these.
 */
static void interrupt_engine(struct vcpu *v)
{
    __atomic_or_fetch(&FIELD(uint32_t, v->cpu, CPU_INTERRUPT_REQUEST), REQUEST_ATTENTION, __ATOMIC_SEQ_CST);
    __atomic_store_n(&FIELD(bool, v->cpu, CPU_EXIT_REQUEST), true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&FIELD(uint16_t, v->cpu, CPU_ICOUNT_DECR + ICOUNT_HIGH), UINT16_MAX, __ATOMIC_SEQ_CST);
}

static void look_up(machine *m)
{
    __atomic_store_n(&m->poked, 1, __ATOMIC_SEQ_CST);
    if (m->current && m->place == IN_GUEST)
        interrupt_engine(m->current);
}

static void on_signal(int number)
{
    (void)number;
    if (here)
        look_up(here);
}

/* Makes the vCPU thread attend() soon. From any thread; the word must have been left before. */
void poke(machine *m)
{
    const uint64_t one = 1;

    if (here == m) {
        look_up(m);
        return;
    }
    if (__atomic_exchange_n(&m->poked, 1, __ATOMIC_SEQ_CST))
        return;
    switch (__atomic_load_n(&m->place, __ATOMIC_SEQ_CST)) {
    case IN_GUEST:
        /* ESRCH, when the thread has left tcg_run() and ended since: nobody to tell. */
        syscall(SYS_tgkill, getpid(), __atomic_load_n(&m->thread, __ATOMIC_SEQ_CST), attention_signal());
        break;
    case IDLE:
        while (write(m->wake, &one, sizeof one) < 0 && errno == EINTR)
            ;
        break;
    }
}

static void leave_word(machine *m, int cpu, uint32_t event)
{
    __atomic_or_fetch(&m->vcpus[cpu].events, event, __ATOMIC_SEQ_CST);
    poke(m);
}

void tcg_interrupt(machine *m, int cpu)
{
    leave_word(m, cpu, EVENT_INTERRUPT);
}

void tcg_nmi(machine *m, int cpu)
{
    leave_word(m, cpu, EVENT_NMI);
}

void tcg_init(machine *m, int cpu)
{
    leave_word(m, cpu, EVENT_INIT);
}

void tcg_startup(machine *m, int cpu, uint8_t vector)
{
    m->vcpus[cpu].startup_vector = vector;
    leave_word(m, cpu, EVENT_STARTUP);
}

void tcg_stop(machine *m)
{
    __atomic_store_n(&m->stop, 1, __ATOMIC_SEQ_CST);
    poke(m);
}

void tcg_fail(machine *m)
{
    __atomic_store_n(&m->failed, 1, __ATOMIC_SEQ_CST);
    poke(m);
}

void tcg_deadline_changed(machine *m)
{
    __atomic_store_n(&m->deadline_changed, 1, __ATOMIC_SEQ_CST);
    poke(m);
}

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

/* Sets the POSIX timer to the guest's next timer expiry or the end of the slice. */
static void arm_timer(machine *m)
{
    struct itimerspec when = {0};
    int64_t now = host_nanoseconds(), target = m->slice_end;

    if (m->deadline != NEVER) {
        int64_t expiry = now + m->deadline - tcg_nanoseconds(m) + 1;
        target = expiry < target ? expiry : target;
    }
    if (target == NEVER ? m->armed == NEVER : m->armed > now && llabs(m->armed - target) < 1000)
        return;
    m->armed = target;
    if (target != NEVER) {
        when.it_value.tv_sec = target / NS_PER_SECOND;
        when.it_value.tv_nsec = target % NS_PER_SECOND;
    }
    timer_settime(m->timer, TIMER_ABSTIME, &when, NULL);
}

static void fire_timers(machine *m)
{
    if (m->deadline != NEVER && tcg_nanoseconds(m) >= m->deadline) {
        exit_expire(m->exits);
        __atomic_store_n(&m->deadline_changed, 1, __ATOMIC_SEQ_CST);
    }
    if (__atomic_exchange_n(&m->deadline_changed, 0, __ATOMIC_SEQ_CST))
        m->deadline = exit_next_deadline(m->exits);
}

/* Acts on everything that others have left word of, except what only the scheduler can do. */
void attend(machine *m)
{
    __atomic_store_n(&m->poked, 0, __ATOMIC_SEQ_CST);
    forget_written_code(m);
    fire_timers(m);
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

static void wait_for_startup(struct vcpu *v)
{
    __atomic_and_fetch(&v->events, ~(EVENT_INIT | EVENT_INTERRUPT | EVENT_NMI), __ATOMIC_SEQ_CST);
    unicorn.do_cpu_init(v->cpu);
    v->state = WAITING_FOR_SIPI;
}

/* Real mode at vector:0000, with every control register at reset (Intel SDM volume 3, 9.4.4). */
static void start_up(struct vcpu *v)
{
    unicorn.do_cpu_init(v->cpu);
    unicorn.cpu_x86_update_cr4(v->env, 0);
    load_segment(v->env, SEG_CS, v->startup_vector << 8, v->startup_vector << 12, 0xffff,
                 CODE_SEGMENT);
    unicorn.x86_update_hflags(v->env);
    unicorn.tlb_flush(v->cpu);
    FIELD(uint64_t, v->env, ENV_EIP) = 0;
    FIELD(uint64_t, v->env, ENV_XCR0) = 1;
    update_tsc_offset(v);
    v->state = RUNNABLE;
}

/* INIT and SIPI. A SIPI counts only for who waits for it. */
static void change_state(struct vcpu *v)
{
    uint32_t events = __atomic_load_n(&v->events, __ATOMIC_SEQ_CST);

    if (events & EVENT_INIT)
        wait_for_startup(v);
    if (events & EVENT_STARTUP) {
        __atomic_and_fetch(&v->events, ~EVENT_STARTUP, __ATOMIC_SEQ_CST);
        if (v->state == WAITING_FOR_SIPI)
            start_up(v);
    }
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

static bool create_timer(machine *m)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = attention_signal()};
    sigset_t signals;

    event.sigev_notify_thread_id = m->thread;
    m->armed = NEVER;
    sigemptyset(&signals);
    sigaddset(&signals, attention_signal());
    return !sigaction(attention_signal(), &action, NULL) && !pthread_sigmask(SIG_UNBLOCK, &signals, NULL) &&
           !timer_create(CLOCK_MONOTONIC, &event, &m->timer);
}

enum tcg_end tcg_run(machine *m)
{
    enum tcg_end end;

    __atomic_store_n(&m->thread, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    if (!create_timer(m))
        return engine_error(&m->vcpus[0], 0, "the host has no timer for it");
    here = m;
    m->deadline_changed = 1;
    end = run_in_turns(m);
    here = NULL;
    timer_delete(m->timer);
    return end;
}
