/* SPDX-License-Identifier: GPL-2.0-only */
/* INIT and SIPI: the states of a vCPU before it runs (Intel SDM volume 3, 9.4). */
#include "machine.h"

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
void change_state(struct vcpu *v)
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
