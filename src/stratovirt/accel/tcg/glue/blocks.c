/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What each translated block costs besides the guest's own code: its beginning, and the search for the next one.
 *
 * The law: a block is entered without the library's search only while nothing has happened since that search
 * which could give another result: no block was dropped, and the mapping of its page was not flushed.
 */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* TB_FLAGS of cpu_get_tb_cpu_state(), target/i386/cpu.h: what of EFLAGS a block is translated for. */
enum { BLOCK_EFLAGS = 0x73100 }; /* IOPL, TF, RF, VM, AC */
enum { JUMP_BITS = 14, JUMPS = 1 << JUMP_BITS };

struct jump { uint64_t pc; uint32_t flags, generation; void *code; } __attribute__((aligned(32))); /* half a line */

/* Where the last jumps to an address that the block before does not know led to: 22 million in a boot of Linux. */
struct jumps {
    uint32_t generation[2]; /* of lower and upper half; counts up when mappings there are flushed */
    const uint64_t *dropped; /* the library's count of dropped blocks */
    struct jump jumps[JUMPS];
};

/* Of the vCPU that the calling thread runs; NULL on any other thread. */
static __thread struct jumps *jumps __attribute__((tls_model("initial-exec")));
/* Of the block that is being translated. */
static __thread TCGLabel *exit_requested __attribute__((tls_model("initial-exec")));

bool create_jumps(struct vcpu *v)
{
    v->jumps = aligned_alloc(_Alignof(struct jumps), sizeof *v->jumps);
    if (v->jumps) {
        memset(v->jumps, 0, sizeof *v->jumps);
        v->jumps->dropped = &FIELD(uint64_t, FIELD(TCGContext *, v->uc, UC_TRANSLATOR), TCG_DROPPED);
    }
    return v->jumps;
}

void forget_jumps(struct vcpu *v)
{
    free(v->jumps);
    v->jumps = NULL;
}

void use_jumps(struct vcpu *v)
{
    jumps = v ? v->jumps : NULL;
}

/* The guest flushed mappings: all, or those of the lower half. */
void flush_jumps(struct vcpu *v, bool upper)
{
    v->jumps->generation[0]++;
    v->jumps->generation[1] += upper;
}

/*
 * The library begins each block with a call that looks whether it has to leave: 7 % of a boot of Linux. QEMU
 * compares in place and leaves at the block's end, which is how the library still ends each block.
 */
INTERPOSED void tcg_gen_callN_x86_64(TCGContext *s, void *function, TCGTemp *result, int count, TCGTemp **arguments)
{
    uintptr_t env;

    if (!running() || function != (void *)unicorn.helper_check_exit_request) {
        unicorn.tcg_gen_callN(s, function, result, count, arguments);
        return;
    }
    env = (uintptr_t)s + FIELD(uintptr_t, s, TCG_CPU_ENV);
    exit_requested = unicorn.gen_new_label(s);
    unicorn.tcg_gen_op3(s, OP_LD_I32, (uintptr_t)arguments[1], env, CPU_ICOUNT_DECR - CPU_ENV);
    unicorn.tcg_gen_brcondi_i32(s, COND_LT, (uintptr_t)arguments[1] - (uintptr_t)s, 0, exit_requested);
}

INTERPOSED void tcg_gen_exit_tb_x86_64(TCGContext *s, void *block, unsigned index)
{
    if (running() && index == EXIT_REQUESTED)
        unicorn.tcg_gen_op1(s, OP_SET_LABEL, (uintptr_t)exit_requested);
    unicorn.tcg_gen_exit_tb(s, block, index);
}

static uint32_t generation_at(const struct jumps *j, uint64_t pc)
{
    return j->generation[pc >> 63] + (uint32_t)*j->dropped;
}

static __attribute__((noinline)) void *search(CPUX86State *env, struct jump *jump, uint64_t pc, uint32_t flags)
{
    void *code = unicorn.helper_lookup_tb_ptr(env);

    if (code != FIELD(void *, FIELD(TCGContext *, running()->uc, UC_TRANSLATOR), TCG_EPILOGUE))
        *jump = (struct jump){pc, flags, generation_at(jumps, pc), code};
    return code;
}

/* The code of the next block, or what ends the run of blocks. May leave by longjmp, if its page is not there. */
INTERPOSED void *helper_lookup_tb_ptr_x86_64(CPUX86State *env)
{
    uint64_t pc = FIELD(uint64_t, env, ENV_EIP);
    uint32_t flags = FIELD(uint32_t, env, ENV_HFLAGS) | (FIELD(uint32_t, env, ENV_EFLAGS) & BLOCK_EFLAGS);
    struct jumps *j = jumps;
    struct jump *jump;

    if (!j || !(flags & HFLAGS_CS64)) /* other code segments have a base */
        return unicorn.helper_lookup_tb_ptr(env);
    jump = &j->jumps[(pc ^ pc >> JUMP_BITS) % JUMPS];
    if (__builtin_expect(jump->pc == pc && jump->flags == flags && jump->generation == generation_at(j, pc), 1))
        return jump->code;
    return search(env, jump, pc, flags);
}

/* All translated code goes, because its room is full; this alone does not count as dropped. */
INTERPOSED void tb_flush_x86_64(CPUState *cpu)
{
    struct vcpu *v = vcpu_of(cpu);

    if (v)
        flush_jumps(v, true);
    unicorn.tb_flush(cpu);
}
