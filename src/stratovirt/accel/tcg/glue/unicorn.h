/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All that the glue knows of the inside of libunicorn 2.1.4 (manylinux x86_64 wheel): the functions that it
 * calls, and where fields lie. Nothing here is linked: functions are looked up in the library once it is
 * loaded, and library.c refuses a library whose fields lie elsewhere.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct uc_struct uc_engine; /* one engine: one CPU and its view of memory */
typedef struct CPUState CPUState;   /* the part of a CPU that all architectures share */
typedef struct CPUX86State CPUX86State;
struct memory_attributes { uint32_t bits; }; /* MemTxAttrs, passed by value */
struct page_collection;
typedef struct TCGContext TCGContext; /* an engine's translator */
typedef struct TCGTemp TCGTemp;
typedef struct TCGLabel TCGLabel;

/* Public API: <unicorn/unicorn.h>, <unicorn/x86.h>. */
enum {
    UC_ARCH_X86 = 4,
    UC_MODE_64 = 8,
    UC_PROT_ALL = 7,
    UC_HOOK_INTR = 1 << 0,
    UC_HOOK_INSN_INVALID = 1 << 14,
    UC_CTL_WRITE_USE_EXITS = 4 | 1 << 26 | 1 << 30,
};
enum { UC_X86_REG_MSR = 248, UC_X86_REG_GDTR = 243, UC_X86_REG_IDTR = 242, UC_X86_REG_RFLAGS = 253 };
enum { UC_X86_REG_CR0 = 50, UC_X86_REG_CR3 = 53, UC_X86_REG_CR4 = 54, UC_X86_REG_RSI = 43, UC_X86_REG_RSP = 44 };
struct uc_x86_mmr { uint16_t selector; uint64_t base; uint32_t limit; uint32_t flags; };
struct uc_x86_msr { uint32_t index; uint64_t value; };
typedef uint64_t (*uc_mmio_read_fn)(uc_engine *, uint64_t offset, unsigned size, void *data);
typedef void (*uc_mmio_write_fn)(uc_engine *, uint64_t offset, unsigned size, uint64_t value, void *data);

/* Every function of the library that is called: PUBLIC by its name, PRIVATE by its name with "_x86_64". */
#define UNICORN_FUNCTIONS(PUBLIC, PRIVATE)                                                                     \
    PUBLIC(int, uc_open, (int arch, int mode, uc_engine **))                                                   \
    PUBLIC(int, uc_close, (uc_engine *))                                                                       \
    PUBLIC(const char *, uc_strerror, (int))                                                                   \
    PUBLIC(int, uc_ctl, (uc_engine *, int control, ...))                                                       \
    PUBLIC(int, uc_reg_read, (uc_engine *, int, void *))                                                       \
    PUBLIC(int, uc_reg_write, (uc_engine *, int, const void *))                                                \
    PUBLIC(int, uc_mem_map_ptr, (uc_engine *, uint64_t address, uint64_t size, uint32_t, void *))              \
    PUBLIC(int, uc_mmio_map,                                                                                   \
           (uc_engine *, uint64_t address, uint64_t size, uc_mmio_read_fn, void *, uc_mmio_write_fn, void *))  \
    PUBLIC(int, uc_hook_add, (uc_engine *, size_t *, int, void *, void *, uint64_t begin, uint64_t end, ...))  \
    PUBLIC(int, uc_emu_start, (uc_engine *, uint64_t pc, uint64_t until, uint64_t timeout, size_t count))      \
    PUBLIC(int, uc_emu_stop, (uc_engine *))                                                                    \
    PRIVATE(void, x86_cpu_do_interrupt, (CPUState *))                                                          \
    PRIVATE(bool, x86_cpu_exec_interrupt, (CPUState *, int request))                                           \
    PRIVATE(void, do_interrupt_x86_hardirq, (CPUX86State *, int vector, int is_hardware))                      \
    PRIVATE(void, raise_exception_err, (CPUX86State *, int vector, int error_code))                            \
    PRIVATE(void, x86_update_hflags, (CPUX86State *))                                                          \
    PRIVATE(void, do_cpu_init, (CPUState *))                                                                   \
    PRIVATE(void, cpu_x86_update_cr4, (CPUX86State *, uint32_t))                                               \
    PRIVATE(void, cpu_x86_update_dr7, (CPUX86State *, uint32_t))                                               \
    PRIVATE(void, cpu_x86_cpuid,                                                                               \
            (CPUX86State *, uint32_t leaf, uint32_t subleaf, uint32_t *, uint32_t *, uint32_t *, uint32_t *))  \
    PRIVATE(void, helper_cpuid, (CPUX86State *))                                                               \
    PRIVATE(void, helper_rdtsc, (CPUX86State *))                                                               \
    PRIVATE(void, helper_rdmsr, (CPUX86State *))                                                               \
    PRIVATE(void, helper_wrmsr, (CPUX86State *))                                                               \
    PRIVATE(void, helper_pause, (CPUX86State *, int advance))                                                  \
    PRIVATE(void, helper_syscall, (CPUX86State *, int advance))                                                \
    PRIVATE(void, helper_sysenter, (CPUX86State *, int advance))                                               \
    PRIVATE(uint64_t, helper_read_crN, (CPUX86State *, int))                                                   \
    PRIVATE(void, helper_write_crN, (CPUX86State *, int, uint64_t))                                            \
    PRIVATE(uint8_t, cpu_inb, (uc_engine *, uint32_t port, uintptr_t pc))                                      \
    PRIVATE(uint16_t, cpu_inw, (uc_engine *, uint32_t port, uintptr_t pc))                                     \
    PRIVATE(uint32_t, cpu_inl, (uc_engine *, uint32_t port, uintptr_t pc))                                     \
    PRIVATE(void, cpu_outb, (uc_engine *, uint32_t port, uint8_t, uintptr_t pc))                               \
    PRIVATE(void, cpu_outw, (uc_engine *, uint32_t port, uint16_t, uintptr_t pc))                              \
    PRIVATE(void, cpu_outl, (uc_engine *, uint32_t port, uint32_t, uintptr_t pc))                              \
    PRIVATE(void, tlb_flush, (CPUState *))                                                                     \
    PRIVATE(void, tlb_reset_dirty, (CPUState *, uint64_t host_address, uint64_t length))                       \
    PRIVATE(void, tlb_reset_dirty_by_vaddr, (CPUState *, uint64_t vaddr, uint64_t length))                     \
    PRIVATE(void, tlb_protect_code, (uc_engine *, uint64_t ram_addr))                                          \
    PRIVATE(void, tlb_set_page_with_attrs,                                                                     \
            (CPUState *, uint64_t vaddr, uint64_t paddr, struct memory_attributes, int protection,             \
             int mmu_index, uint64_t size))                                                                    \
    PRIVATE(void, tb_invalidate_phys_range, (uc_engine *, uint64_t start, uint64_t end))                       \
    PRIVATE(void, tb_invalidate_phys_page_fast,                                                                \
            (uc_engine *, struct page_collection *, uint64_t start, int length, uintptr_t pc))                 \
    PRIVATE(uint64_t, qemu_ram_addr_from_host, (uc_engine *, void *))                                          \
    PRIVATE(void, tlb_flush_by_mmuidx, (CPUState *, uint16_t map))                                             \
    PRIVATE(void, tlb_flush_page_by_mmuidx, (CPUState *, uint64_t vaddr, uint16_t map))                        \
    PRIVATE(void *, tb_gen_code,                                                                               \
            (CPUState *, uint64_t pc, uint64_t cs_base, uint32_t flags, int cflags))                           \
    PRIVATE(void, tb_flush, (CPUState *))                                                                      \
    PRIVATE(void, tb_flush_jmp_cache, (CPUState *, uint64_t vaddr))                                            \
    PRIVATE(size_t, tcg_tb_phys_invalidate_count, (TCGContext *))                                              \
    PRIVATE(void *, helper_lookup_tb_ptr, (CPUX86State *))                                                     \
    PRIVATE(void, helper_check_exit_request, (void *, uint32_t))                                               \
    PRIVATE(TCGLabel *, gen_new_label, (TCGContext *))                                                         \
    PRIVATE(void, tcg_gen_callN, (TCGContext *, void *, TCGTemp *, int, TCGTemp **))                           \
    PRIVATE(void, tcg_gen_op1, (TCGContext *, int opcode, uintptr_t))                                          \
    PRIVATE(void, tcg_gen_op3, (TCGContext *, int opcode, uintptr_t, uintptr_t, uintptr_t))                    \
    PRIVATE(void, tcg_gen_brcondi_i32, (TCGContext *, int condition, uintptr_t, int32_t, TCGLabel *))          \
    PRIVATE(void, tcg_gen_exit_tb, (TCGContext *, void *block, unsigned index))

struct unicorn {
#define DECLARE(result, name, parameters) result (*name) parameters;
    UNICORN_FUNCTIONS(DECLARE, DECLARE)
#undef DECLARE
};
extern struct unicorn unicorn;

/* Where fields lie, in bytes. Verified by library.c, each by writing through the API or by a known value. */
enum {
    UC_CPU = 440,
    UC_TRANSLATOR = 768,
    UC_STOP_REQUEST = 1389,
    UC_NO_EXIT_REQUEST = 2034,

    TCG_EPILOGUE = 152,
    TCG_DROPPED = 216, /* how often a block was */
    TCG_CPU_ENV = 39152,
    TCG_OPERATIONS = 39272, /* their definitions */

    CPU_EXIT_REQUEST = 21,
    CPU_INTERRUPT_REQUEST = 28,
    CPU_ENV_PTR = 296,
    CPU_ICOUNT_DECR_PTR = 304,
    CPU_HALTED = 33176,
    CPU_EXCEPTION_INDEX = 33184,
    CPU_UC = 33192,
    CPU_CLASS = 33200,
    CPU_TLB_FAST = 35344, /* CPUTLBDescFast[NB_MMU_MODES] */
    CPU_ICOUNT_DECR = 35392,
    CPU_ENV = 35408,

    CLASS_EXEC_INTERRUPT = 144,
    ICOUNT_HIGH = 2,

    ENV_REGS = 0,
    ENV_EIP = 128,
    ENV_EFLAGS = 136, /* without the arithmetic flags and DF, which are kept apart */
    ENV_CC_SRC = 152,
    ENV_CC_OP = 168,
    ENV_DF = 172,
    ENV_HFLAGS = 176,
    ENV_HFLAGS2 = 180,
    ENV_SEGMENTS = 184,
    ENV_GDT = 376,
    ENV_CR = 424,
    ENV_EFER = 592,
    ENV_SYSENTER_CS = 4800,
    ENV_SYSENTER_ESP = 4808,
    ENV_SYSENTER_EIP = 4816,
    ENV_STAR = 4824,
    ENV_LSTAR = 4840,
    ENV_FMASK = 4856,
    ENV_XCR0 = 4904,
    ENV_DR = 5400,
    ENV_BREAKPOINTS = 5464, /* pointers, one for each of DR0 to DR3 */
    ENV_OLD_EXCEPTION = 5496,
    ENV_TSC_OFFSET = 5512,
    ENV_RETURN_ADDRESS = 5560, /* of the host's, and only while an instruction is being carried out */
    ENV_RESET_END = 5568,      /* what a reset clears ends here: all that guest code changes, but some MSRs */
};
#define FIELD(type, object, offset) (*(type *)((char *)(object) + (offset)))

/* target/i386/cpu.h */
enum { R_EAX, R_ECX, R_EDX, R_EBX, R_ESP, R_R11 = 11 };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEGMENTS };
struct segment_cache { uint32_t selector; uint64_t base; uint32_t limit; uint32_t flags; };
enum {
    DESC_ACCESSED = 1 << 8,
    DESC_READ_WRITE = 1 << 9, /* readable code, writable data */
    DESC_CODE = 1 << 11,
    DESC_S = 1 << 12,
    DESC_PRESENT = 1 << 15,
    DESC_LONG = 1 << 21,
    DESC_BIG = 1 << 22,
    DESC_4K_LIMIT = 1 << 23,
};
#define CODE_SEGMENT (DESC_PRESENT | DESC_S | DESC_CODE | DESC_READ_WRITE | DESC_ACCESSED)
#define FLAT_CODE (DESC_4K_LIMIT | CODE_SEGMENT) /* and DESC_LONG or DESC_BIG */
#define FLAT_DATA (DESC_4K_LIMIT | DESC_BIG | DESC_PRESENT | DESC_S | DESC_READ_WRITE | DESC_ACCESSED)
enum { FLAG_CF = 1 << 0, FLAG_IF = 1 << 9, FLAG_DF = 1 << 10, FLAG_RF = 1 << 16, FLAG_VM = 1 << 17 };
enum { HFLAGS_INHIBIT_INTERRUPT = 1 << 3, HFLAGS_LMA = 1 << 14, HFLAGS_CS64 = 1 << 15 };
enum { HFLAGS2_IN_NMI = 1 << 2 };
enum { EXCEPTION_DF = 8 };
enum { DR6_INIT = 0xffff0ff0, DR7_INIT = 0x400 };
enum { REQUEST_HARD = 0x0002, REQUEST_ATTENTION = 0x0010 /* CPU_INTERRUPT_POLL, used by nobody else */ };
enum { CC_OP_EFLAGS = 1 };

/* include/tcg/tcg.h, include/tcg/tcg-opc.h */
enum { OP_SET_LABEL = 1, OP_LD_I32 = 13 };
enum { COND_LT = 2 };
enum { EXIT_REQUESTED = 3 }; /* TB_EXIT_REQUESTED: the block was left before its first instruction */
struct operation { const char *name; uint64_t rest[3]; };
enum { TEMP_NAME = 32 };

/* include/exec/cpu-defs.h, include/exec/cpu-all.h */
struct tlb_entry { uint64_t addr_read, addr_write, addr_code, paddr, addend, padding[3]; };
struct tlb_fast { uint64_t mask; struct tlb_entry *table; }; /* mask: (entries - 1) << 6 */
enum { TLB_ENTRY_BITS = 6 };
enum { TLB_NOTDIRTY = 1 << 10 };
enum { PROTECTION_WRITE = 2 };
