/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Translated code and the guest memory that it was made from.
 *
 * The law: a page's bit in code_mask is set while that vCPU's engine may hold code of the page, and while any
 * bit is set, every engine's writes to the page take the slow path (TLB_NOTDIRTY), through any mapping.
 * The library by itself tracks the mapping that the code was executed through only, in one engine only;
 * Linux patches its text through another one, on any CPU.
 */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

static const uint64_t PAGE_MASK = -(uint64_t)PAGE_SIZE;

static struct ram *ram_at(machine *m, uint64_t gpa)
{
    for (int i = 0; i < m->ram_count; i++)
        if (gpa - m->ram[i].gpa < m->ram[i].size)
            return &m->ram[i];
    return NULL;
}

/* A page of RAM, or NULL. */
const uint64_t *guest_page(machine *m, uint64_t gpa)
{
    struct ram *ram = ram_at(m, gpa);

    return ram ? (const uint64_t *)(ram->host + (gpa - ram->gpa)) : NULL;
}

static char *host_of(machine *m, uint64_t ram_addr)
{
    for (int i = 0; i < m->ram_count; i++)
        if (ram_addr - m->ram[i].ram_addr < m->ram[i].size)
            return m->ram[i].host + (ram_addr - m->ram[i].ram_addr);
    return NULL;
}

/* Drops what the engines in `vcpus` hold of a page. Only what is not being executed, or between blocks. */
static void drop_page(machine *m, uint64_t page, uint16_t vcpus)
{
    vcpus &= m->code_mask[page];
    m->code_mask[page] &= ~vcpus;
    for (int i = 0; vcpus; i++, vcpus >>= 1)
        if (vcpus & 1)
            unicorn.tb_invalidate_phys_range(m->vcpus[i].uc, page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
}

/*
 * The engine reads code before its page's mask is set. A device that writes the page in between finds `translating`
 * set, and leaves word all the same. It stays set when a fault ends the translation: then word is left in vain.
 */
INTERPOSED void *tb_gen_code_x86_64(CPUState *cpu, uint64_t pc, uint64_t cs_base, uint32_t flags, int cflags)
{
    struct vcpu *v = running();
    void *block;

    if (v)
        __atomic_store_n(&v->machine->translating, 1, __ATOMIC_SEQ_CST);
    block = unicorn.tb_gen_code(cpu, pc, cs_base, flags, cflags);
    if (v)
        __atomic_store_n(&v->machine->translating, 0, __ATOMIC_SEQ_CST);
    return block;
}

/* The engine has translated its first code of a page: from now on writes to the page must be seen. */
INTERPOSED void tlb_protect_code_x86_64(uc_engine *uc, uint64_t ram_addr)
{
    struct vcpu *v = running();
    uint64_t host;

    if (!v) {
        unicorn.tlb_protect_code(uc, ram_addr);
        return;
    }
    host = (uint64_t)host_of(v->machine, ram_addr) & PAGE_MASK;
    v->machine->code_mask[ram_addr / PAGE_SIZE] |= 1 << v->index;
    for (int i = 0; i < v->machine->vcpu_count; i++)
        unicorn.tlb_reset_dirty(v->machine->vcpus[i].cpu, host, PAGE_SIZE);
}

/*
 * The library searches the whole TLB after each translation, for the mapping that it may have let take the
 * fast path. There is none, see above: 7 % of a boot of Linux.
 */
INTERPOSED void tlb_reset_dirty_by_vaddr_x86_64(CPUState *cpu, uint64_t vaddr, uint64_t length)
{
    if (!running())
        unicorn.tlb_reset_dirty_by_vaddr(cpu, vaddr, length);
}

/*
 * A guest write on the slow path. The library drops the overlapping blocks only and then lets the mapping
 * take the fast path; so all blocks of the page have to go. It may leave by longjmp when the running block
 * is overwritten; the own bit then stays set, which costs a slow write and no more.
 */
INTERPOSED void tb_invalidate_phys_page_fast_x86_64(uc_engine *uc, struct page_collection *pages,
                                                    uint64_t start, int length, uintptr_t pc)
{
    struct vcpu *v = running();
    uint64_t page = start / PAGE_SIZE;
    uint16_t own;

    if (!v) {
        unicorn.tb_invalidate_phys_page_fast(uc, pages, start, length, pc);
        return;
    }
    if (!v->machine->code_mask[page])
        return;
    own = 1 << v->index;
    drop_page(v->machine, page, (uint16_t)~own);
    if (v->machine->code_mask[page] & own) {
        unicorn.tb_invalidate_phys_page_fast(uc, pages, start, length, pc);
        drop_page(v->machine, page, own);
    }
}

/*
 * The library marks each writable mapping for the slow path, and leaves it there for ever if the mapping is
 * executable too. Most hold no code: 23 million slow writes in a boot of Linux, 3 thousand with this.
 */
INTERPOSED void tlb_set_page_with_attrs_x86_64(CPUState *cpu, uint64_t vaddr, uint64_t paddr,
                                               struct memory_attributes attributes, int protection,
                                               int mmu_index, uint64_t size)
{
    struct vcpu *v = running();
    struct ram *ram;
    struct tlb_fast *fast;
    struct tlb_entry *entry;

    unicorn.tlb_set_page_with_attrs(cpu, vaddr, paddr, attributes, protection, mmu_index, size);
    if (v)
        note_mapping(v, vaddr, mmu_index);
    if (!v || !(protection & PROTECTION_WRITE) || !(ram = ram_at(v->machine, paddr)))
        return;
    if (v->machine->code_mask[(ram->ram_addr + paddr - ram->gpa) / PAGE_SIZE])
        return;
    fast = &FIELD(struct tlb_fast, cpu, CPU_TLB_FAST + mmu_index * sizeof *fast);
    entry = &fast->table[vaddr / PAGE_SIZE & fast->mask >> TLB_ENTRY_BITS];
    if (entry->addr_write == ((vaddr & PAGE_MASK) | TLB_NOTDIRTY))
        entry->addr_write &= ~(uint64_t)TLB_NOTDIRTY;
}

static bool holds_code(machine *m, uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end; page++)
        if (m->code_mask[page])
            return true;
    return false;
}

static void queue_written(machine *m, struct page_range range)
{
    pthread_mutex_lock(&m->lock);
    if (m->written_count == m->written_room) {
        m->written_room = m->written_room ? 2 * m->written_room : 64;
        m->written = realloc(m->written, m->written_room * sizeof *m->written);
        if (!m->written)
            abort(); /* going on would run stale code */
    }
    m->written[m->written_count++] = range;
    pthread_mutex_unlock(&m->lock);
}

/* A guest that runs code of a page that a device is writing gets either, and then the new. */
void tcg_memory_written(machine *m, uint64_t gpa, uint64_t length)
{
    struct ram *ram = ram_at(m, gpa);
    struct page_range range;

    if (!ram || !length || !m->code_mask)
        return;
    range.first = (ram->ram_addr + gpa - ram->gpa) / PAGE_SIZE;
    range.end = (ram->ram_addr + gpa - ram->gpa + length - 1) / PAGE_SIZE + 1;
    if (range.end > m->pages)
        range.end = m->pages;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the bytes are there before anybody is asked who has read them */
    if (!__atomic_load_n(&m->translating, __ATOMIC_SEQ_CST) && !holds_code(m, range.first, range.end))
        return;
    queue_written(m, range);
    poke(m);
}

void memory_written(void *owner, uint64_t gpa, uint64_t length)
{
    tcg_memory_written(owner, gpa, length);
}

uintptr_t tcg_native_written(machine *m)
{
    return (uintptr_t)&m->listener;
}

/* Drops the code of all pages in the queue. */
void forget_written_code(machine *m)
{
    if (!__atomic_load_n(&m->written_count, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&m->lock);
    for (int i = 0; i < m->written_count; i++)
        for (uint64_t page = m->written[i].first; page < m->written[i].end; page++)
            drop_page(m, page, UINT16_MAX);
    m->written_count = 0;
    pthread_mutex_unlock(&m->lock);
}

/* The engines are gone, and their code with them. Devices may be asking at this moment: the mask stays. */
void forget_engines(machine *m)
{
    for (uint64_t page = 0; m->code_mask && page < m->pages; page++)
        if (m->code_mask[page]) /* so that untouched pages of a large mask stay untouched */
            m->code_mask[page] = 0;
    pthread_mutex_lock(&m->lock);
    m->written_count = 0;
    pthread_mutex_unlock(&m->lock);
}
