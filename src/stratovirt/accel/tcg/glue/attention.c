/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How other threads, timers and the vCPU thread's own callbacks make it look up from guest code.
 *
 * The law: guest code is interrupted only by stores made on the vCPU thread itself, in its signal handler. The
 * library clears and reads the same fields without barriers, so stores from other threads could be lost.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

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

/* Sets the POSIX timer to the guest's next timer expiry or the end of the slice. */
void arm_timer(machine *m)
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
        /* First, so that a change which comes while they fire is not lost. */
        __atomic_store_n(&m->deadline_changed, 0, __ATOMIC_SEQ_CST);
        m->deadline = exit_expire(m->exits);
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

/* The timer that interrupts the calling thread, and the signal that it and poke() use. */
bool create_timer(machine *m)
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
