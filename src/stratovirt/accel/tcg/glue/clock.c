/* SPDX-License-Identifier: GPL-2.0-only */
/* Guest time: the host's TSC minus an offset. Every other guest clock is derived from it, so they agree. */
#include "machine.h"

enum { CLOCK_SAMPLES = 16 };

int64_t host_nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

void tcg_sample_clock(int64_t *nanoseconds, uint64_t *tsc)
{
    uint64_t narrowest = UINT64_MAX;

    for (int i = 0; i < CLOCK_SAMPLES; i++) {
        uint64_t before = __builtin_ia32_rdtsc();
        int64_t now = host_nanoseconds();
        uint64_t width = __builtin_ia32_rdtsc() - before;

        if (width < narrowest) {
            narrowest = width;
            *nanoseconds = now;
            *tsc = before + width / 2;
        }
    }
}

uint64_t tcg_tsc(machine *m)
{
    return m->frozen ? m->frozen_tsc : __builtin_ia32_rdtsc() + m->tsc_offset;
}

int64_t tcg_nanoseconds(machine *m)
{
    return (int64_t)((unsigned __int128)tcg_tsc(m) * NS_PER_SECOND / m->tsc_hz);
}

/* The engine's RDTSC is the host's plus this field. */
void update_tsc_offset(struct vcpu *v)
{
    FIELD(uint64_t, v->env, ENV_TSC_OFFSET) = v->machine->tsc_offset + v->tsc_adjust;
}

void tcg_freeze(machine *m)
{
    m->frozen_tsc = tcg_tsc(m);
    m->frozen = true;
}

void tcg_set_time(machine *m, uint64_t tsc, uint64_t tsc_hz)
{
    m->frozen_tsc = tsc;
    m->tsc_hz = tsc_hz;
}

void tcg_thaw(machine *m)
{
    m->tsc_offset = m->frozen_tsc - __builtin_ia32_rdtsc();
    m->frozen = false;
    for (int i = 0; i < m->vcpu_count; i++)
        update_tsc_offset(&m->vcpus[i]);
}

uint64_t tcg_tsc_adjust(machine *m, int cpu)
{
    return m->vcpus[cpu].tsc_adjust;
}

void tcg_set_tsc_adjust(machine *m, int cpu, uint64_t adjust)
{
    m->vcpus[cpu].tsc_adjust = adjust;
    update_tsc_offset(&m->vcpus[cpu]);
}
