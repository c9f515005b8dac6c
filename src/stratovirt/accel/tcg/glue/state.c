/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A vCPU out of one engine, and into another.
 *
 * The law: only while nobody is in tcg_run(): between two runs everything that an engine knows of its CPU is in
 * env, and what lies before ENV_RESET_END holds no pointer but those that are left out here.
 */
#include <string.h>

#include "machine.h"

enum { BREAKPOINTS_SIZE = ENV_OLD_EXCEPTION - ENV_BREAKPOINTS };

_Static_assert(TCG_REGISTERS_SIZE == ENV_RESET_END, "what Python sees of a CPU is what a reset clears");

void tcg_save_vcpu(machine *m, int cpu, struct tcg_vcpu_state *state)
{
    struct vcpu *v = &m->vcpus[cpu];

    state->run_state = v->state;
    state->events = __atomic_load_n(&v->events, __ATOMIC_SEQ_CST);
    state->startup_vector = v->startup_vector;
    state->tsc_adjust = v->tsc_adjust;
    memcpy(state->registers, v->env, TCG_REGISTERS_SIZE);
    memset(state->registers + ENV_BREAKPOINTS, 0, BREAKPOINTS_SIZE);
    FIELD(uintptr_t, state->registers, ENV_RETURN_ADDRESS) = 0;
    FIELD(uint64_t, state->registers, ENV_TSC_OFFSET) = 0;
}

void tcg_load_vcpu(machine *m, int cpu, const struct tcg_vcpu_state *state)
{
    struct vcpu *v = &m->vcpus[cpu];
    uint64_t *dr7 = &FIELD(uint64_t, v->env, ENV_DR + 8 * 7), saved_dr7;

    memcpy(v->env, state->registers, TCG_REGISTERS_SIZE);
    memset((char *)v->env + ENV_BREAKPOINTS, 0, BREAKPOINTS_SIZE);
    FIELD(uintptr_t, v->env, ENV_RETURN_ADDRESS) = 0;
    saved_dr7 = *dr7;
    *dr7 = DR7_INIT;
    unicorn.cpu_x86_update_dr7(v->env, saved_dr7); /* makes the breakpoints */
    unicorn.tlb_flush(v->cpu);
    v->state = state->run_state;
    v->startup_vector = state->startup_vector;
    v->tsc_adjust = state->tsc_adjust;
    update_tsc_offset(v);
    __atomic_store_n(&v->events, state->events, __ATOMIC_SEQ_CST);
}

uint64_t tcg_read_msr(machine *m, int cpu, uint32_t index)
{
    struct uc_x86_msr msr = {.index = index};

    unicorn.uc_reg_read(m->vcpus[cpu].uc, UC_X86_REG_MSR, &msr);
    return msr.value;
}

void tcg_write_msr(machine *m, int cpu, uint32_t index, uint64_t value)
{
    struct uc_x86_msr msr = {.index = index, .value = value};

    unicorn.uc_reg_write(m->vcpus[cpu].uc, UC_X86_REG_MSR, &msr);
}
