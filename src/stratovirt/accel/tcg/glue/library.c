/* SPDX-License-Identifier: GPL-2.0-only */
/* Loading libunicorn, and making sure that it is the one this glue was written for. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

struct unicorn unicorn;

static char reason[256];

static const char *resolve(void *library)
{
#define RESOLVE(name, symbol)                                                                                  \
    if (!(unicorn.name = (__typeof__(unicorn.name))dlsym(library, symbol)))                                    \
        return "it does not export " symbol;
#define PUBLIC(result, name, parameters) RESOLVE(name, #name)
#define PRIVATE(result, name, parameters) RESOLVE(name, #name "_x86_64")
    UNICORN_FUNCTIONS(PUBLIC, PRIVATE)
    return NULL;
}

const char *tcg_load(const char *path)
{
    void *library;

    if (dlopen(path, RTLD_LAZY | RTLD_NOLOAD))
        return "it is loaded already, by somebody else, and can no longer be extended";
    library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!library) {
        snprintf(reason, sizeof reason, "%s", dlerror());
        return reason;
    }
    return resolve(library);
}

static bool control_registers_lie_right(uc_engine *uc, CPUX86State *env)
{
    static const int general[] = {35, 38, 40, 37, 44, 36, 43, 39, 106, 107, 108, 109, 110, 111, 112, 113};
    struct uc_x86_mmr gdt = {.base = 0x123456789000, .limit = 0x7f};

    for (int i = 0; i < 16; i++) {
        uint64_t mark = 0x1122334455660000 + i, zero = 0;
        unicorn.uc_reg_write(uc, general[i], &mark);
        if (FIELD(uint64_t, env, ENV_REGS + 8 * i) != mark)
            return false;
        unicorn.uc_reg_write(uc, general[i], &zero);
    }
    unicorn.uc_reg_write(uc, UC_X86_REG_GDTR, &gdt);
    return FIELD(struct segment_cache, env, ENV_GDT).base == gdt.base &&
           FIELD(uint64_t, env, ENV_CR) == 0x60000010;
}

static bool msrs_lie_right(uc_engine *uc, CPUX86State *env)
{
    static const struct { uint32_t index; int offset; } msrs[] = {
        {0x175, ENV_SYSENTER_ESP}, {0x176, ENV_SYSENTER_EIP}, {0xc0000081, ENV_STAR},
        {0xc0000082, ENV_LSTAR},   {0xc0000084, ENV_FMASK},
    };

    for (size_t i = 0; i < sizeof msrs / sizeof *msrs; i++) {
        struct uc_x86_msr msr = {msrs[i].index, 0xabcd0000 + msrs[i].index};
        unicorn.uc_reg_write(uc, UC_X86_REG_MSR, &msr);
        if (FIELD(uint64_t, env, msrs[i].offset) != msr.value)
            return false;
        FIELD(uint64_t, env, msrs[i].offset) = 0;
    }
    return true;
}

static bool flags_lie_right(uc_engine *uc, CPUX86State *env)
{
    uint64_t flags = 0x2 | FLAG_CF | FLAG_IF | FLAG_DF;

    unicorn.uc_reg_write(uc, UC_X86_REG_RFLAGS, &flags);
    return FIELD(uint64_t, env, ENV_CC_SRC) == FLAG_CF && FIELD(uint32_t, env, ENV_CC_OP) == CC_OP_EFLAGS &&
           FIELD(int32_t, env, ENV_DF) == -1 && (FIELD(uint64_t, env, ENV_EFLAGS) & FLAG_IF);
}

static bool time_lies_right(CPUX86State *env)
{
    FIELD(uint64_t, env, ENV_TSC_OFFSET) = -__builtin_ia32_rdtsc();
    unicorn.helper_rdtsc(env);
    return FIELD(uint64_t, env, ENV_REGS + 8 * R_EDX) == 0;
}

static bool requests_lie_right(uc_engine *uc, CPUState *cpu)
{
    FIELD(uint16_t, cpu, CPU_ICOUNT_DECR + ICOUNT_HIGH) = 0;
    unicorn.uc_emu_stop(uc);
    return FIELD(bool, uc, UC_STOP_REQUEST) && FIELD(bool, cpu, CPU_EXIT_REQUEST) &&
           FIELD(uint16_t, cpu, CPU_ICOUNT_DECR + ICOUNT_HIGH) == 0xffff;
}

static bool translator_lies_right(uc_engine *uc)
{
    static const uint8_t clear_eax[] = {0x33, 0xc0}; /* how the epilogue begins */
    TCGContext *translator = FIELD(TCGContext *, uc, UC_TRANSLATOR);
    struct operation *operations = FIELD(struct operation *, translator, TCG_OPERATIONS);
    char *env = (char *)translator + FIELD(uintptr_t, translator, TCG_CPU_ENV);

    return FIELD(uint64_t, translator, TCG_DROPPED)++ == 0 &&
           unicorn.tcg_tb_phys_invalidate_count(translator) == 1 &&
           !strcmp(FIELD(char *, env, TEMP_NAME), "env") && !strcmp(operations[OP_LD_I32].name, "ld_i32") &&
           !strcmp(operations[OP_SET_LABEL].name, "set_label") &&
           !memcmp(FIELD(void *, translator, TCG_EPILOGUE), clear_eax, sizeof clear_eax);
}

static bool tlb_lies_right(CPUState *cpu, const struct ram *ram)
{
    const uint64_t vaddr = 0x7654321000;
    struct tlb_fast *fast = &FIELD(struct tlb_fast, cpu, CPU_TLB_FAST);
    struct tlb_entry *entry;

    unicorn.tlb_set_page_with_attrs(cpu, vaddr, ram->gpa, (struct memory_attributes){0}, PROTECTION_WRITE, 0,
                                    PAGE_SIZE);
    entry = &fast->table[vaddr / PAGE_SIZE & fast->mask >> TLB_ENTRY_BITS];
    return entry->addr_write == (vaddr | TLB_NOTDIRTY) && entry->addr_read == UINT64_MAX &&
           entry->paddr == ram->gpa && entry->addend == (uint64_t)ram->host - vaddr;
}

static bool reset_lies_right(CPUState *cpu, CPUX86State *env)
{
    FIELD(uint32_t, cpu, CPU_INTERRUPT_REQUEST) = REQUEST_HARD;
    FIELD(int, env, ENV_OLD_EXCEPTION) = 8;
    FIELD(uint64_t, env, ENV_EFER) = 0x100;
    FIELD(uintptr_t, env, ENV_RETURN_ADDRESS) = 1;
    FIELD(int, env, ENV_RESET_END) = 1;
    unicorn.do_cpu_init(cpu);
    return FIELD(uint32_t, cpu, CPU_INTERRUPT_REQUEST) == 0 && FIELD(int, env, ENV_OLD_EXCEPTION) == -1 &&
           FIELD(uint64_t, env, ENV_EFER) == 0 && FIELD(uint64_t, env, ENV_EIP) == 0xfff0 &&
           FIELD(uint32_t, cpu, CPU_HALTED) == 0 &&
           FIELD(uint32_t, env, ENV_HFLAGS2) == 1 /* GIF */ && FIELD(int, cpu, CPU_EXCEPTION_INDEX) == -1 &&
           FIELD(uint64_t, env, ENV_DR + 8 * 6) == DR6_INIT && FIELD(uint64_t, env, ENV_DR + 8 * 7) == DR7_INIT &&
           FIELD(uintptr_t, env, ENV_RETURN_ADDRESS) == 0 && FIELD(int, env, ENV_RESET_END) == 1;
}

/*
 * Compares every private offset with what the engine does, and makes sure that its calls come to us.
 * The engine is fresh, and ram is mapped; it is reset afterwards.
 */
const char *verify_engine(uc_engine *uc, const struct ram *ram)
{
    CPUState *cpu = FIELD(CPUState *, uc, UC_CPU);
    CPUX86State *env;

    if (FIELD(uc_engine *, cpu, CPU_UC) != uc)
        return "the CPU lies elsewhere";
    env = FIELD(CPUX86State *, cpu, CPU_ENV_PTR);
    if ((char *)env != (char *)cpu + CPU_ENV ||
        FIELD(char *, cpu, CPU_ICOUNT_DECR_PTR) != (char *)cpu + CPU_ICOUNT_DECR)
        return "the CPU is laid out differently";
    if (FIELD(void *, FIELD(void *, cpu, CPU_CLASS), CLASS_EXEC_INTERRUPT) !=
        (void *)x86_cpu_exec_interrupt_x86_64)
        return "its internal calls cannot be taken over";
    if (!reset_lies_right(cpu, env) || !control_registers_lie_right(uc, env) || !msrs_lie_right(uc, env) ||
        !flags_lie_right(uc, env) || !time_lies_right(env) || !requests_lie_right(uc, cpu) ||
        !tlb_lies_right(cpu, ram) || !translator_lies_right(uc))
        return "the CPU's state is laid out differently";
    return reset_lies_right(cpu, env) ? NULL : "it does not reset as expected";
}
