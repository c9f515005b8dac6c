/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which mappings a MOV to CR3 flushes: not the global ones (Intel SDM volume 3, 4.10.4.1).
 *
 * The library flushes all, and with them where jumps led to. Linux changes CR3 twice for each word of its text
 * that it patches, 17,000 times in a boot, and its own mappings are global: 10 % of a boot.
 *
 * The law: a mapping is the kernel's in the lower half and flushed by name, or the user's there and flushed with
 * all of them, or it is in the upper half and global; or the next write of CR3 flushes everything, jumps too.
 */
#include "machine.h"

enum { MMU_USER = 1, MMU_USER_MAP = 1 << MMU_USER, MMU_KERNEL_MAP = 1 << 0 | 1 << 2, JUMPS_ONLY = 0 };
enum { PTE_LARGE = 1 << 7, PTE_GLOBAL = 1 << 8, ENTRIES_PER_TABLE = 512, ROOT_SHIFT = 39, PAGE_SHIFT = 12 };
enum { CR4_PGE = 1 << 7, CR4_LA57 = 1 << 12 };
static const uint64_t PTE_ADDRESS = 0x000ffffffffff000;

static uint64_t control_register(struct vcpu *v, int number)
{
    return FIELD(uint64_t, v->env, ENV_CR + 8 * number);
}

/* Whether the mapping, which the library has just walked to, is global. */
static bool is_global(struct vcpu *v, uint64_t vaddr)
{
    uint64_t entry = control_register(v, 3);
    const uint64_t *table;

    if (!(control_register(v, 4) & CR4_PGE) || control_register(v, 4) & CR4_LA57 ||
        !(FIELD(uint32_t, v->env, ENV_HFLAGS) & HFLAGS_LMA))
        return false;
    for (int shift = ROOT_SHIFT; shift >= PAGE_SHIFT; shift -= 9) {
        table = guest_page(v->machine, entry & PTE_ADDRESS);
        if (!table)
            return false;
        entry = table[vaddr >> shift & (ENTRIES_PER_TABLE - 1)];
        if (shift < ROOT_SHIFT && entry & PTE_LARGE)
            break;
    }
    return entry & PTE_GLOBAL;
}

/* The library has put a mapping into one of its tables. */
void note_mapping(struct vcpu *v, uint64_t vaddr, int mmu_index)
{
    struct local_mappings *local = &v->local;

    if (local->unlisted)
        return;
    if (vaddr >> 63) { /* whoever's: the jumps of user mode to it are not forgotten with its mappings */
        local->unlisted = !is_global(v, vaddr);
        return;
    }
    if (mmu_index == MMU_USER || (local->count && local->pages[local->count - 1] == vaddr))
        return;
    if (local->count == LOCAL_MAPPINGS)
        local->unlisted = true;
    else
        local->pages[local->count++] = vaddr;
}

static void flush_local_mappings(struct vcpu *v)
{
    unicorn.tlb_flush_by_mmuidx(v->cpu, MMU_USER_MAP);
    for (int i = 0; i < v->local.count; i++)
        unicorn.tlb_flush_page_by_mmuidx(v->cpu, v->local.pages[i], MMU_KERNEL_MAP);
    v->local.count = 0;
    flush_jumps(v, false);
}

/* Every flush of more than a page comes by here. */
INTERPOSED void tlb_flush_by_mmuidx_x86_64(CPUState *cpu, uint16_t map)
{
    struct vcpu *v = vcpu_of(cpu);

    if (v && v->writes_cr3 && !v->local.unlisted) {
        flush_local_mappings(v);
        return;
    }
    if (v) {
        v->local.count = 0;
        v->local.unlisted = false;
        flush_jumps(v, true);
    }
    unicorn.tlb_flush_by_mmuidx(cpu, map);
}

/*
 * One page was flushed. The library forgets the jumps to these 4 KiB, but they may be part of a larger page, and
 * INVLPG flushes all of it.
 */
INTERPOSED void tb_flush_jmp_cache_x86_64(CPUState *cpu, uint64_t vaddr)
{
    struct vcpu *v = vcpu_of(cpu);

    if (!v)
        unicorn.tb_flush_jmp_cache(cpu, vaddr);
    else if (!v->writes_cr3) { /* which has had it forget them all */
        flush_jumps(v, vaddr >> 63);
        unicorn.tlb_flush_by_mmuidx(cpu, JUMPS_ONLY);
    }
}
