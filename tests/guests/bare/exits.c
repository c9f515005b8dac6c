/* What leaving the guest costs, for benchmarks: a line "NAME COUNT CYCLES" per measurement on the serial port, with
 * cycles of the time-stamp counter; then "READY", and from then on each byte that comes is sent back at once.
 * Runs on QEMU's microvm too, which enters an ELF kernel by its PVH note. Needs a virtio-rng device. */

#include "bare.h"

#define IOAPIC 0xFEC00000ul
#define LAPIC 0xFEE00000ul
#define VECTOR 0x40
#define SERIAL_GSI 4
#define RTC 0x70
#define ENTROPY 4
#define QEMU_SLOT 0xFEB00000ul
#define QEMU_GSI 16
#define QEMU_SLOTS 8

#define ENOUGH 300000000u /* cycles per measurement, about 0.1 s */

static const u8 gsis[SLOTS] = {16, 17, 18, 19, 20, 21, 22, 23, 5, 6, 7, 9, 10, 11, 14, 15};

static struct queue queue;
static u8 buffer[64];
static volatile u32 interrupts;
static u64 slot;

/* -- the PVH entry: 32-bit protected mode without paging, to long mode with 4 GiB mapped one to one ---------- */

__asm__(".pushsection .note.Xen, \"a\", @note\n"
        ".align 4\n"
        ".long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
        ".asciz \"Xen\"\n"
        ".long pvh_entry\n"
        ".popsection\n"
        ".pushsection .bss\n"
        ".balign 4096\n"
        "pvh_tables: .skip 6 * 4096\n" /* a PML4, its page of pointers, four pages of 2 MiB pages */
        ".skip 4096\n"
        "pvh_stack:\n"
        ".popsection\n"
        ".pushsection .data\n"
        ".balign 8\n"
        "pvh_gdt: .quad 0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF\n"
        "pvh_gdtr: .word 31\n"
        ".long pvh_gdt\n"
        ".popsection\n"
        ".pushsection .text\n"
        ".code32\n"
        "pvh_entry:\n"
        "  mov $pvh_stack, %esp\n"
        "  movl $pvh_tables + 0x1003, pvh_tables\n"
        "  xor %ecx, %ecx\n"
        "1: mov %ecx, %eax\n"
        "  shl $12, %eax\n"
        "  add $pvh_tables + 0x2003, %eax\n"
        "  mov %eax, pvh_tables + 0x1000(,%ecx,8)\n"
        "  inc %ecx\n"
        "  cmp $4, %ecx\n"
        "  jne 1b\n"
        "  xor %ecx, %ecx\n"
        "2: mov %ecx, %eax\n"
        "  shl $21, %eax\n"
        "  or $0x83, %eax\n" /* present, writable, large */
        "  mov %eax, pvh_tables + 0x2000(,%ecx,8)\n"
        "  inc %ecx\n"
        "  cmp $2048, %ecx\n"
        "  jne 2b\n"
        "  mov $pvh_tables, %eax\n"
        "  mov %eax, %cr3\n"
        "  mov $0x20, %eax\n" /* PAE */
        "  mov %eax, %cr4\n"
        "  mov $0xC0000080, %ecx\n" /* EFER: long mode */
        "  rdmsr\n"
        "  bts $8, %eax\n"
        "  wrmsr\n"
        "  mov %cr0, %eax\n"
        "  bts $31, %eax\n"
        "  mov %eax, %cr0\n"
        "  lgdt pvh_gdtr\n"
        "  ljmp $0x10, $3f\n"
        ".code64\n"
        "3: mov $0x18, %eax\n"
        "  mov %eax, %ds\n"
        "  mov %eax, %es\n"
        "  mov %eax, %ss\n"
        "  jmp start\n"
        ".popsection\n");

/* -- printing ---------------------------------------------------------------------------------------------- */

static void number(u64 value)
{
    char digits[24], *at = digits + 23;
    *at = 0;
    do
        *--at = '0' + value % 10;
    while (value /= 10);
    print(at);
}

static inline u64 cycles(void)
{
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

static void report(const char *name, u64 count, u64 begin)
{
    u64 taken = cycles() - begin;
    print(name);
    print(" ");
    number(count);
    print(" ");
    number(taken);
    print("\n");
}

/* -- interrupts -------------------------------------------------------------------------------------------- */

static struct { u16 low, selector, flags, middle; u32 high, zero; } idt[256] __attribute__((aligned(16)));

struct frame;

__attribute__((interrupt)) static void handle(struct frame *frame)
{
    (void)frame;
    interrupts++;
    if (slot)
        write32(slot + INTERRUPT_ACK, read32(slot + INTERRUPT_STATUS));
    write32(LAPIC + 0xB0, 0);
}

static void route(u8 gsi, u32 flags)
{
    write32(IOAPIC, 0x11 + 2 * gsi);
    write32(IOAPIC + 0x10, 0);
    write32(IOAPIC, 0x10 + 2 * gsi);
    write32(IOAPIC + 0x10, VECTOR | flags);
}

static void enable_interrupts(void)
{
    struct { u16 limit; u64 base; } __attribute__((packed)) pointer = {sizeof idt - 1, (u64)idt};
    u64 entry = (u64)handle;
    idt[VECTOR].low = entry;
    idt[VECTOR].selector = 0x10;
    idt[VECTOR].flags = 0x8E00;
    idt[VECTOR].middle = entry >> 16;
    idt[VECTOR].high = entry >> 32;
    __asm__ volatile("lidt %0" ::"m"(pointer));
    outb(0x21, 0xFF); /* the PICs stay silent */
    outb(0xA1, 0xFF);
    write32(LAPIC + 0xF0, 0x1FF);
}

/* -- the device: requests of one descriptor ----------------------------------------------------------------- */

static void find_device(void)
{
    int ours = read32(SLOT(0)) == VIRT_MAGIC;
    for (u32 index = 0; index < (ours ? SLOTS : QEMU_SLOTS); index++) {
        slot = ours ? SLOT(index) : QEMU_SLOT + index * 0x200;
        if (read32(slot + DEVICE_ID) == ENTROPY) {
            route(ours ? gsis[index] : QEMU_GSI + index, 1 << 15); /* level-triggered */
            return;
        }
    }
    print("no virtio-rng device\n");
    power_off();
}

static void begin_device(void)
{
    write32(slot + STATUS, 0);
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER);
    write32(slot + DRIVER_FEATURES_SEL, 1);
    write32(slot + DRIVER_FEATURES, 1); /* VERSION_1 */
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    write32(slot + QUEUE_SEL, 0);
    write32(slot + QUEUE_NUM, RING_SIZE);
    write64(slot + QUEUE_DESC, (u64)queue.descriptors);
    write64(slot + QUEUE_DRIVER, (u64)&queue.available);
    write64(slot + QUEUE_DEVICE, (u64)&queue.used);
    write32(slot + QUEUE_READY, 1);
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    queue.descriptors[0] = (struct descriptor){(u64)buffer, 4, WRITE, 0};
}

static void kick(void)
{
    queue.available.ring[queue.available.index % RING_SIZE] = 0;
    __atomic_store_n(&queue.available.index, queue.available.index + 1, __ATOMIC_SEQ_CST);
    write32(slot + QUEUE_NOTIFY, 0);
}

static int done(void) { return __atomic_load_n(&queue.used.index, __ATOMIC_SEQ_CST) == queue.available.index; }

static void request_polling(void)
{
    queue.available.flags = 1; /* no interrupt, please */
    kick();
    while (!done())
        __asm__ volatile("pause");
}

static void request_sleeping(void)
{
    u32 before = interrupts;
    queue.available.flags = 0;
    kick();
    while (!done() || interrupts == before)
        __asm__ volatile("sti; hlt; cli");
}

/* ---------------------------------------------------------------------------------------------------------- */

/* Again and again for a while, so that fast and slow ones are measured as well. */
#define MEASURE(name, batch, statement) \
    do { \
        u64 begin = cycles(), count = 0; \
        do { \
            for (u32 i = 0; i < (batch); i++) \
                statement; \
            count += (batch); \
        } while (cycles() - begin < ENOUGH); \
        report(name, count, begin); \
    } while (0)

static void measure(void)
{
    MEASURE("serial", 1000, inb(SERIAL + 5));
    MEASURE("rtc", 1000, inb(RTC + 1));
    MEASURE("mmio", 1000, read32(slot + DEVICE_ID));
    MEASURE("polling", 50, request_polling());
    MEASURE("sleeping", 50, request_sleeping());
}

__attribute__((noreturn)) static void echo(void)
{
    slot = 0;
    route(SERIAL_GSI, 0); /* edge-triggered */
    outb(SERIAL + 4, 0x0B); /* OUT2: the interrupt line is on */
    outb(SERIAL + 1, 0x01); /* for received data */
    print("READY\n");
    for (;;) {
        while (inb(SERIAL + 5) & 1)
            outb(SERIAL, inb(SERIAL));
        __asm__ volatile("sti; hlt; cli");
    }
}

int main(void)
{
    enable_interrupts();
    find_device();
    begin_device();
    outb(RTC, 0x0D);
    measure();
    echo();
}
