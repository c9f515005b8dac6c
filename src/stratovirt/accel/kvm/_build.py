"""Builds ``stratovirt.accel.kvm._kvm``: <linux/kvm.h> as Python sees it (cffi, API mode).

The compiler fills in every ``...`` from the kernel's own header, so no layout or number is written
twice. The only C of our own is what has to happen inside a signal handler or between two instructions (the
kick), and what reaches devices in C without a turn of Python's lock.
"""

from pathlib import Path

from cffi import FFI

NATIVE = Path(__file__).parents[2] / "native"

CONSTANTS = """
    KVM_API_VERSION KVM_GET_API_VERSION KVM_CHECK_EXTENSION KVM_GET_VCPU_MMAP_SIZE
    KVM_GET_SUPPORTED_CPUID KVM_GET_MSR_INDEX_LIST KVM_CREATE_VM
    KVM_CAP_IRQCHIP KVM_CAP_USER_MEMORY KVM_CAP_PIT2 KVM_CAP_IRQFD KVM_CAP_IOEVENTFD
    KVM_CAP_IRQ_ROUTING KVM_CAP_MP_STATE KVM_CAP_VCPU_EVENTS KVM_CAP_DEBUGREGS KVM_CAP_XSAVE KVM_CAP_XSAVE2
    KVM_CAP_XCRS KVM_CAP_ADJUST_CLOCK KVM_CAP_IMMEDIATE_EXIT KVM_CAP_TSC_DEADLINE_TIMER

    KVM_SET_USER_MEMORY_REGION KVM_MEM_LOG_DIRTY_PAGES KVM_GET_DIRTY_LOG
    KVM_SET_TSS_ADDR KVM_SET_IDENTITY_MAP_ADDR KVM_CREATE_IRQCHIP KVM_CREATE_PIT2 KVM_PIT_SPEAKER_DUMMY
    KVM_SET_GSI_ROUTING KVM_IRQ_ROUTING_IRQCHIP
    KVM_IRQCHIP_PIC_MASTER KVM_IRQCHIP_PIC_SLAVE KVM_IRQCHIP_IOAPIC
    KVM_IRQ_LINE KVM_SIGNAL_MSI KVM_IRQFD KVM_IRQFD_FLAG_DEASSIGN KVM_IRQFD_FLAG_RESAMPLE
    KVM_IOEVENTFD KVM_IOEVENTFD_FLAG_DATAMATCH KVM_IOEVENTFD_FLAG_DEASSIGN
    KVM_GET_IRQCHIP KVM_SET_IRQCHIP KVM_GET_PIT2 KVM_SET_PIT2 KVM_GET_CLOCK KVM_SET_CLOCK KVM_CREATE_VCPU

    KVM_RUN KVM_SET_CPUID2 KVM_GET_CPUID2 KVM_GET_MSRS KVM_SET_MSRS KVM_TRANSLATE KVM_KVMCLOCK_CTRL
    KVM_GET_REGS KVM_SET_REGS KVM_GET_SREGS KVM_SET_SREGS KVM_GET_FPU KVM_SET_FPU
    KVM_GET_XSAVE KVM_GET_XSAVE2 KVM_SET_XSAVE KVM_GET_XCRS KVM_SET_XCRS
    KVM_GET_DEBUGREGS KVM_SET_DEBUGREGS KVM_GET_LAPIC KVM_SET_LAPIC
    KVM_GET_VCPU_EVENTS KVM_SET_VCPU_EVENTS KVM_GET_MP_STATE KVM_SET_MP_STATE
    KVM_GET_DEVICE_ATTR KVM_SET_DEVICE_ATTR KVM_VCPU_TSC_CTRL KVM_VCPU_TSC_OFFSET
    KVM_CAP_BINARY_STATS_FD KVM_GET_STATS_FD

    KVM_EXIT_IO KVM_EXIT_MMIO KVM_EXIT_INTR KVM_EXIT_SHUTDOWN KVM_EXIT_FAIL_ENTRY
    KVM_EXIT_INTERNAL_ERROR KVM_EXIT_IO_OUT

    PROT_READ PROT_WRITE MAP_SHARED
"""

DECLARATIONS = """
struct kvm_run {
    uint8_t immediate_exit;
    uint32_t exit_reason;
    union {
        struct { uint64_t hardware_entry_failure_reason; uint32_t cpu; } fail_entry;
        struct { uint8_t direction; uint8_t size; uint16_t port; uint32_t count; uint64_t data_offset; } io;
        struct { uint64_t phys_addr; uint8_t data[8]; uint32_t len; uint8_t is_write; } mmio;
        struct { uint32_t suberror; uint32_t ndata; uint64_t data[16]; } internal;
    };
    ...;
};

struct kvm_regs {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    ...;
};
struct kvm_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g, avl, unusable;
    ...;
};
struct kvm_dtable { uint64_t base; uint16_t limit; ...; };
struct kvm_sregs {
    struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct kvm_dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    ...;
};
struct kvm_fpu { ...; };
struct kvm_xsave { ...; };
struct kvm_xcrs { ...; };
struct kvm_debugregs { ...; };
struct kvm_vcpu_events { ...; };
struct kvm_lapic_state { char regs[...]; ...; };
struct kvm_mp_state { uint32_t mp_state; ...; };
struct kvm_stats_header { uint32_t name_size, num_desc, desc_offset, data_offset; ...; };
struct kvm_stats_desc { uint32_t offset; char name[]; ...; };
struct kvm_translation { uint64_t linear_address; uint64_t physical_address; uint8_t valid; ...; };
struct kvm_device_attr { uint32_t flags; uint32_t group; uint64_t attr; uint64_t addr; ...; };

struct kvm_cpuid_entry2 { uint32_t function, index, flags, eax, ebx, ecx, edx; ...; };
struct kvm_cpuid2 { uint32_t nent; struct kvm_cpuid_entry2 entries[]; ...; };
struct kvm_msr_entry { uint32_t index; uint64_t data; ...; };
struct kvm_msrs { uint32_t nmsrs; struct kvm_msr_entry entries[]; ...; };
struct kvm_msr_list { uint32_t nmsrs; uint32_t indices[]; ...; };

struct kvm_userspace_memory_region {
    uint32_t slot;
    uint32_t flags;
    uint64_t guest_phys_addr;
    uint64_t memory_size;
    uint64_t userspace_addr;
    ...;
};
struct kvm_dirty_log { uint32_t slot; void *dirty_bitmap; ...; };
struct kvm_pit_config { uint32_t flags; ...; };
struct kvm_pit_state2 { ...; };
struct kvm_irqchip { uint32_t chip_id; ...; };
struct kvm_clock_data { uint64_t clock; uint32_t flags; ...; };
struct kvm_irq_level { uint32_t irq; uint32_t level; ...; };
struct kvm_msi { uint32_t address_lo; uint32_t address_hi; uint32_t data; ...; };
struct kvm_irqfd { uint32_t fd; uint32_t gsi; uint32_t flags; uint32_t resamplefd; ...; };
struct kvm_ioeventfd { uint64_t datamatch; uint64_t addr; uint32_t len; int32_t fd; uint32_t flags; ...; };
struct kvm_irq_routing_irqchip { uint32_t irqchip; uint32_t pin; };
struct kvm_irq_routing_entry {
    uint32_t gsi;
    uint32_t type;
    union { struct kvm_irq_routing_irqchip irqchip; uint32_t pad[8]; } u;
    ...;
};
struct kvm_irq_routing { uint32_t nr; struct kvm_irq_routing_entry entries[]; ...; };

int ioctl(int fd, unsigned long request, void *argument);
void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset);
int munmap(void *address, size_t length);

struct native_ports { ...; };
bool native_add(struct native_ports *, uint32_t first, uint32_t count, const void *device);

/* KVM_RUN until an exit that has to be served in Python. -1 with errno, as KVM_RUN. */
int run_vcpu(int fd, struct kvm_run *, const struct native_ports *);

/* The interrupt inputs of a VM for devices in C; fd -1: it is gone. */
struct irq_lines { int fd; ...; };
void connect_lines(struct irq_lines *, int fd);
uintptr_t native_irq(struct irq_lines *, uint32_t gsi);

int install_kick_handler(int signal_number);
void kick(struct kvm_run *run, int thread, int signal_number);
"""

SOURCE = r"""
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "native.h"

static bool serve_natively(struct kvm_run *run, const struct native_ports *ports)
{
    uint8_t *items = (uint8_t *)run + run->io.data_offset;

    if (run->exit_reason != KVM_EXIT_IO || run->io.size != 1)
        return false;
    for (uint32_t i = 0; i < run->io.count; i++)
        if (run->io.direction == KVM_EXIT_IO_OUT ? !native_write(ports, run->io.port, items[i])
                                                 : !native_read(ports, run->io.port, &items[i]))
            return false; /* a device declines a port, so the first item already */
    return true;
}

static int run_vcpu(int fd, struct kvm_run *run, const struct native_ports *ports)
{
    do {
        if (ioctl(fd, KVM_RUN, 0) < 0)
            return -1;
    } while (serve_natively(run, ports));
    return 0;
}

enum { IRQ_LINES = 24 };
struct irq_lines { int fd; struct native_irq irqs[IRQ_LINES]; };

static void set_level(void *owner, uint32_t gsi, bool level)
{
    struct kvm_irq_level input = {.irq = gsi, .level = level};

    ioctl(((struct irq_lines *)owner)->fd, KVM_IRQ_LINE, &input);
}

static void connect_lines(struct irq_lines *lines, int fd)
{
    lines->fd = fd;
    for (int i = 0; i < IRQ_LINES; i++)
        lines->irqs[i] = (struct native_irq){lines, i, set_level};
}

static uintptr_t native_irq(struct irq_lines *lines, uint32_t gsi)
{
    return (uintptr_t)&lines->irqs[gsi];
}

static void wake_only(int signal_number) { (void)signal_number; }

/* KVM_RUN returns EINTR whatever the flags; SA_RESTART spares every other system call of the thread. */
static int install_kick_handler(int signal_number)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = wake_only;
    action.sa_flags = SA_RESTART;
    return sigaction(signal_number, &action, NULL);
}

/*
 * The flag first, so that KVM_RUN, if it is not reached yet, does not enter the guest; then the signal,
 * which ends it if it is. tgkill rather than pthread_kill: the thread may be gone by now, which is
 * undefined behaviour for the one and ESRCH for the other.
 */
static void kick(struct kvm_run *run, int thread, int signal_number)
{
    __atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (thread)
        syscall(SYS_tgkill, getpid(), thread, signal_number);
}
"""

ffi = FFI()
ffi.cdef("\n".join(f"#define {name} ..." for name in CONSTANTS.split()))
ffi.cdef(DECLARATIONS)
ffi.set_source(
    "stratovirt.accel.kvm._kvm",
    SOURCE,
    include_dirs=[str(NATIVE)],
    depends=[str(NATIVE / "native.h")],
    extra_compile_args=["-O2", "-Wall"],
)

if __name__ == "__main__":
    ffi.compile(tmpdir="src", verbose=True)
