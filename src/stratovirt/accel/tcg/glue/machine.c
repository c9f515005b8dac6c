/* SPDX-License-Identifier: GPL-2.0-only */
/* Making, starting and deleting machines. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine.h"

enum { CR0_PE_MP_ET_NE_PG = 0x80000033u, CR4_PAE = 1 << 5, EFER_LME = 1 << 8, MSR_EFER = 0xc0000080 };

machine *tcg_new(void *exits, int vcpus, uint64_t tsc_hz)
{
    machine *m = calloc(1, sizeof *m);

    if (!m)
        return NULL;
    m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->wake < 0) {
        free(m);
        return NULL;
    }
    m->exits = exits;
    m->vcpu_count = vcpus;
    m->tsc_hz = tsc_hz;
    m->tsc_offset = -__builtin_ia32_rdtsc();
    pthread_mutex_init(&m->lock, NULL);
    for (int i = 0; i < vcpus; i++)
        m->vcpus[i] = (struct vcpu){.machine = m, .index = i};
    for (int i = 0; i < IRQ_LINES; i++)
        m->irqs[i] = (struct native_irq){m, i, set_irq_line};
    m->listener = (struct native_written){m, memory_written};
    return m;
}

static void power_off(machine *m)
{
    for (int i = 0; i < m->vcpu_count; i++) {
        if (m->vcpus[i].uc)
            unicorn.uc_close(m->vcpus[i].uc);
        m->vcpus[i].uc = NULL;
        forget_jumps(&m->vcpus[i]);
    }
    forget_engines(m);
    m->current = NULL;
}

void tcg_close(machine *m)
{
    power_off(m);
    if (m->wake >= 0)
        close(m->wake);
    m->wake = -1;
}

void tcg_free(machine *m)
{
    tcg_close(m);
    for (int i = 0; i < m->vcpu_count; i++)
        free(m->vcpus[i].cpuid);
    pthread_mutex_destroy(&m->lock);
    free(m->code_mask);
    free(m->written);
    free(m->ioeventfds);
    free(m);
}

void tcg_add_ram(machine *m, uint64_t gpa, uint64_t size, void *host)
{
    if (m->ram_count == MAX_REGIONS)
        abort();
    m->ram[m->ram_count++] = (struct ram){.gpa = gpa, .size = size, .host = host};
    m->pages += size / PAGE_SIZE;
}

void tcg_add_hole(machine *m, uint64_t gpa, uint64_t size)
{
    if (m->hole_count == MAX_REGIONS)
        abort();
    m->holes[m->hole_count++] = (struct hole){m, gpa, size};
}

void tcg_set_cpuid(machine *m, int cpu, const struct tcg_cpuid *leaves, int count)
{
    struct vcpu *v = &m->vcpus[cpu];

    v->cpuid = realloc(v->cpuid, count * sizeof *leaves);
    if (!v->cpuid)
        abort();
    memcpy(v->cpuid, leaves, count * sizeof *leaves);
    v->cpuid_count = count;
}

/* Maps the same things at the same places in each engine: code_mask counts on equal ram_addr. */
static const char *map_memory(struct vcpu *v)
{
    machine *m = v->machine;
    uint64_t ram_addr = 0;

    for (int i = 0; i < m->ram_count; ram_addr += m->ram[i++].size) {
        struct ram *ram = &m->ram[i];
        if (unicorn.uc_mem_map_ptr(v->uc, ram->gpa, ram->size, UC_PROT_ALL, ram->host))
            return "guest memory cannot be mapped";
        ram->ram_addr = ram_addr;
        if (unicorn.qemu_ram_addr_from_host(v->uc, ram->host) != ram_addr)
            return "guest memory is numbered differently";
    }
    for (int i = 0; i < m->hole_count; i++)
        if (unicorn.uc_mmio_map(v->uc, m->holes[i].gpa, m->holes[i].size, hole_read, &m->holes[i], hole_write,
                                &m->holes[i]))
            return "the space between guest memory cannot be mapped";
    return NULL;
}

static const char *open_engine(struct vcpu *v)
{
    const char *problem;
    uint64_t unused;
    size_t hook;

    /* The engine comes to life at its first use. */
    if (unicorn.uc_open(UC_ARCH_X86, UC_MODE_64, &v->uc) ||
        unicorn.uc_reg_read(v->uc, UC_X86_REG_RFLAGS, &unused))
        return "an engine cannot be created";
    problem = map_memory(v);
    if (!problem && v->index == 0)
        problem = verify_engine(v->uc, &v->machine->ram[0]);
    if (problem)
        return problem;
    v->cpu = FIELD(CPUState *, v->uc, UC_CPU);
    v->env = FIELD(CPUX86State *, v->cpu, CPU_ENV_PTR);
    if (!create_jumps(v))
        return "out of memory";
    /* Without it the engine tests for exit after each load and store, and runs the instruction again. */
    FIELD(bool, v->uc, UC_NO_EXIT_REQUEST) = true;
    /* No address ends emulation; without it address 0 does. */
    unicorn.uc_ctl(v->uc, UC_CTL_WRITE_USE_EXITS, 1);
    unicorn.uc_hook_add(v->uc, &hook, UC_HOOK_INTR, deliver_exception, NULL, 1, 0);
    unicorn.uc_hook_add(v->uc, &hook, UC_HOOK_INSN_INVALID, deliver_invalid_opcode, NULL, 1, 0);
    return NULL;
}

static const char *power_on(struct vcpu *v)
{
    const char *problem = open_engine(v);

    if (problem)
        return problem;
    unicorn.do_cpu_init(v->cpu);
    FIELD(uint64_t, v->env, ENV_XCR0) = 1;
    v->state = v->index ? WAITING_FOR_SIPI : RUNNABLE;
    v->tsc_adjust = 0;
    update_tsc_offset(v);
    __atomic_store_n(&v->events, 0, __ATOMIC_SEQ_CST);
    return NULL;
}

const char *tcg_power_on(machine *m)
{
    const char *problem = NULL;

    power_off(m);
    if (!m->code_mask && !(m->code_mask = calloc(m->pages, sizeof *m->code_mask)))
        return "out of memory";
    for (int i = 0; i < m->vcpu_count && !problem; i++)
        problem = power_on(&m->vcpus[i]);
    return problem;
}

static void write_register(struct vcpu *v, int id, uint64_t value)
{
    unicorn.uc_reg_write(v->uc, id, &value);
}

void tcg_start(machine *m, const struct tcg_entry *entry)
{
    struct vcpu *v = &m->vcpus[0];
    struct uc_x86_mmr gdt = {.base = entry->gdt_base, .limit = entry->gdt_limit}, idt = {0};
    struct uc_x86_msr efer = {MSR_EFER, EFER_LME};

    unicorn.uc_reg_write(v->uc, UC_X86_REG_GDTR, &gdt);
    unicorn.uc_reg_write(v->uc, UC_X86_REG_IDTR, &idt);
    write_register(v, UC_X86_REG_CR4, CR4_PAE);
    write_register(v, UC_X86_REG_CR3, entry->cr3);
    unicorn.uc_reg_write(v->uc, UC_X86_REG_MSR, &efer);
    write_register(v, UC_X86_REG_CR0, CR0_PE_MP_ET_NE_PG);
    for (int segment = 0; segment < SEGMENTS; segment++)
        load_segment(v->env, segment, entry->data_selector, 0, UINT32_MAX, FLAT_DATA);
    load_segment(v->env, SEG_CS, entry->code_selector, 0, UINT32_MAX, FLAT_CODE | DESC_LONG);
    unicorn.x86_update_hflags(v->env);
    write_register(v, UC_X86_REG_RSI, entry->rsi);
    write_register(v, UC_X86_REG_RSP, entry->rsp);
    write_register(v, UC_X86_REG_RFLAGS, 0x2);
    FIELD(uint64_t, v->env, ENV_EIP) = entry->rip;
    v->state = RUNNABLE;
}

uint64_t tcg_read_register(machine *m, int cpu, int id)
{
    uint64_t value = 0;

    if (m->vcpus[cpu].uc)
        unicorn.uc_reg_read(m->vcpus[cpu].uc, id, &value);
    return value;
}

bool tcg_halted(machine *m, int cpu)
{
    return m->vcpus[cpu].state != RUNNABLE;
}

const char *tcg_error(machine *m, int *cpu)
{
    *cpu = m->error_cpu;
    return m->error_text;
}
