/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Instructions that the library leaves out or answers wrongly for a whole machine. Each replaces a helper that
 * translated code calls; EIP and the flags are in env at that point. References: Intel SDM, volume 2.
 */
#include "machine.h"

enum { EXCEPTION_UD = 6, EXCEPTION_GP = 13 };
enum { EFER_SCE = 1 << 0 };

static uint64_t *reg(CPUX86State *env, int number)
{
    return &FIELD(uint64_t, env, ENV_REGS + 8 * number);
}

void load_segment(CPUX86State *env, int segment, uint16_t selector, uint64_t base, uint32_t limit,
                  uint32_t flags)
{
    FIELD(struct segment_cache, env, ENV_SEGMENTS + segment * sizeof(struct segment_cache)) =
        (struct segment_cache){.selector = selector, .base = base, .limit = limit, .flags = flags};
}

/* Flat code and stack segments at CPL 0, and an EIP: how SYSCALL and SYSENTER enter a kernel. */
static void enter_kernel(CPUX86State *env, uint16_t selector, uint32_t code_size, uint64_t eip)
{
    selector &= ~3;
    load_segment(env, SEG_CS, selector, 0, UINT32_MAX, FLAT_CODE | code_size);
    load_segment(env, SEG_SS, selector + 8, 0, UINT32_MAX, FLAT_DATA);
    unicorn.x86_update_hflags(env);
    FIELD(uint64_t, env, ENV_EIP) = eip;
}

/* SYSCALL: 64-bit mode only on an Intel CPU, which is what CPUID says this is. */
INTERPOSED void helper_syscall_x86_64(CPUX86State *env, int advance)
{
    struct vcpu *v = running();
    uint64_t flags;

    if (!v) {
        unicorn.helper_syscall(env, advance);
        return;
    }
    if (!(FIELD(uint64_t, env, ENV_EFER) & EFER_SCE) || !(FIELD(uint32_t, env, ENV_HFLAGS) & HFLAGS_CS64))
        unicorn.raise_exception_err(env, EXCEPTION_UD, 0);
    unicorn.uc_reg_read(v->uc, UC_X86_REG_RFLAGS, &flags);
    *reg(env, R_ECX) = FIELD(uint64_t, env, ENV_EIP) + advance;
    *reg(env, R_R11) = flags & ~(uint64_t)FLAG_RF;
    flags &= ~(FIELD(uint64_t, env, ENV_FMASK) | FLAG_RF);
    unicorn.uc_reg_write(v->uc, UC_X86_REG_RFLAGS, &flags);
    enter_kernel(env, FIELD(uint64_t, env, ENV_STAR) >> 32, DESC_LONG, FIELD(uint64_t, env, ENV_LSTAR));
}

INTERPOSED void helper_sysenter_x86_64(CPUX86State *env, int advance)
{
    uint32_t selector = FIELD(uint32_t, env, ENV_SYSENTER_CS);
    uint32_t code_size = FIELD(uint32_t, env, ENV_HFLAGS) & HFLAGS_LMA ? DESC_LONG : DESC_BIG;

    if (!running()) {
        unicorn.helper_sysenter(env, advance);
        return;
    }
    if (!(selector & 0xfffc))
        unicorn.raise_exception_err(env, EXCEPTION_GP, 0);
    FIELD(uint64_t, env, ENV_EFLAGS) &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
    *reg(env, R_ESP) = FIELD(uint64_t, env, ENV_SYSENTER_ESP);
    enter_kernel(env, selector, code_size, FIELD(uint64_t, env, ENV_SYSENTER_EIP));
}

/* The MSRs that the library implements as the manual says; all others are Python's. */
static bool is_native_msr(uint32_t index)
{
    static const struct { uint32_t first, last; } native[] = {
        {0xc0000080, 0xc0000084}, /* EFER, STAR, LSTAR, CSTAR, FMASK */
        {0xc0000100, 0xc0000103}, /* FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX */
        {0x174, 0x176},           /* SYSENTER */
        {0x277, 0x277},           /* PAT */
        {0x1a0, 0x1a0},           /* MISC_ENABLE */
        {0xfe, 0xfe},             /* MTRRs */
        {0x200, 0x20f},
        {0x250, 0x250},
        {0x258, 0x259},
        {0x268, 0x26f},
        {0x2ff, 0x2ff},
        {0x179, 0x17b}, /* MCG */
        {0x400, 0x43f}, /* MC banks */
        {0x8b, 0x8b},   /* microcode revision */
        {0x34, 0x34},   /* SMI count */
        {0x198, 0x198}, /* PERF_STATUS */
    };

    for (size_t i = 0; i < sizeof native / sizeof *native; i++)
        if (native[i].first <= index && index <= native[i].last)
            return true;
    return false;
}

INTERPOSED void helper_rdmsr_x86_64(CPUX86State *env)
{
    struct vcpu *v = running();
    uint32_t index = *reg(env, R_ECX);
    uint64_t value;

    if (!v || is_native_msr(index)) {
        unicorn.helper_rdmsr(env);
        return;
    }
    if (!exit_msr_read(v->machine->exits, v->index, index, &value))
        unicorn.raise_exception_err(env, EXCEPTION_GP, 0);
    *reg(env, R_EAX) = (uint32_t)value;
    *reg(env, R_EDX) = value >> 32;
}

INTERPOSED void helper_wrmsr_x86_64(CPUX86State *env)
{
    struct vcpu *v = running();
    uint32_t index = *reg(env, R_ECX);
    uint64_t value = (uint32_t)*reg(env, R_EAX) | *reg(env, R_EDX) << 32;

    if (!v || is_native_msr(index)) {
        unicorn.helper_wrmsr(env);
        return;
    }
    if (!exit_msr_write(v->machine->exits, v->index, index, value))
        unicorn.raise_exception_err(env, EXCEPTION_GP, 0);
}

/* What a vCPU's CPUID says: the engine's answer as changed. */
static void cpuid(struct vcpu *v, CPUX86State *env, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    unicorn.cpu_x86_cpuid(env, leaf, subleaf, &out[0], &out[1], &out[2], &out[3]);
    for (struct tcg_cpuid *c = v->cpuid; c < v->cpuid + v->cpuid_count; c++)
        if (c->leaf == leaf && (c->subleaf < 0 || c->subleaf == subleaf))
            for (int i = 0; i < 4; i++)
                out[i] = (out[i] & c->keep[i]) | c->set[i];
}

void tcg_cpuid(machine *m, int cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    cpuid(&m->vcpus[cpu], m->vcpus[cpu].env, leaf, subleaf, out);
}

INTERPOSED void helper_cpuid_x86_64(CPUX86State *env)
{
    static const int order[] = {R_EAX, R_EBX, R_ECX, R_EDX};
    struct vcpu *v = running();
    uint32_t out[4];

    if (!v) {
        unicorn.helper_cpuid(env);
        return;
    }
    cpuid(v, env, *reg(env, R_EAX), *reg(env, R_ECX), out);
    for (int i = 0; i < 4; i++)
        *reg(env, order[i]) = out[i];
}

/* Who spins lets the next vCPU run: the lock's owner can be no other. */
INTERPOSED void helper_pause_x86_64(CPUX86State *env, int advance)
{
    struct vcpu *v = running();

    if (v)
        yield_turn(v);
    unicorn.helper_pause(env, advance);
}

INTERPOSED uint64_t helper_read_crN_x86_64(CPUX86State *env, int number)
{
    struct vcpu *v = running();

    return v && number == 8 ? exit_cr8_read(v->machine->exits, v->index) : unicorn.helper_read_crN(env, number);
}

INTERPOSED void helper_write_crN_x86_64(CPUX86State *env, int number, uint64_t value)
{
    struct vcpu *v = running();

    if (v && number == 3) {
        v->writes_cr3 = true;
        unicorn.helper_write_crN(env, number, value);
        v->writes_cr3 = false;
    } else if (!v || number != 8)
        unicorn.helper_write_crN(env, number, value);
    else if (value & ~(uint64_t)0xf)
        unicorn.raise_exception_err(env, EXCEPTION_GP, 0);
    else
        exit_cr8_write(v->machine->exits, v->index, value);
}
