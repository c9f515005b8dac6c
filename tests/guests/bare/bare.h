/* What guests without an operating system share: the serial port, virtio-mmio registers, queues, interrupts.
 * Memory is identity-mapped up to 4 GiB by the loader (docs/boot.md); the entry point is main(). */

#ifndef BARE_H
#define BARE_H

#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define SERIAL 0x3F8
#define SLEEP_CONTROL 0x600
#define POWER_OFF 0x34
#define SLOTS 16
#define SLOT(index) (0xF0100000ul + (index) * 0x200ul)
#define VIRT_MAGIC 0x74726976u

/* Registers (virtio 1.2, 4.2.2). */
enum {
    MAGIC = 0x00, DEVICE_ID = 0x08, DEVICE_FEATURES = 0x10, DEVICE_FEATURES_SEL = 0x14, DRIVER_FEATURES = 0x20,
    DRIVER_FEATURES_SEL = 0x24, QUEUE_SEL = 0x30, QUEUE_NUM_MAX = 0x34, QUEUE_NUM = 0x38, QUEUE_READY = 0x44,
    QUEUE_NOTIFY = 0x50, INTERRUPT_STATUS = 0x60, INTERRUPT_ACK = 0x64, STATUS = 0x70, QUEUE_DESC = 0x80,
    QUEUE_DRIVER = 0x90, QUEUE_DEVICE = 0xA0, CONFIG = 0x100,
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

#define RING_SIZE 16

struct descriptor { u64 address; u32 length; u16 flags, next; };
struct available { u16 flags, index, ring[RING_SIZE], used_event; };
struct used_element { u32 head, length; };
struct used { u16 flags, index; struct used_element ring[RING_SIZE]; u16 available_event; };

struct queue {
    struct descriptor descriptors[RING_SIZE] __attribute__((aligned(16)));
    struct available available __attribute__((aligned(4)));
    struct used used __attribute__((aligned(4)));
    u16 seen;
};

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

static inline u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u32 read32(u64 address) { return *(volatile u32 *)address; }
static inline void write32(u64 address, u32 value) { *(volatile u32 *)address = value; }
static inline void write64(u64 address, u64 value)
{
    write32(address, (u32)value);
    write32(address + 4, (u32)(value >> 32));
}

static inline void put(char c)
{
    while (!(inb(SERIAL + 5) & 0x20))
        ;
    outb(SERIAL, (u8)c);
}

static inline void print(const char *text)
{
    for (; *text; text++)
        put(*text);
}

__attribute__((noreturn)) static inline void power_off(void)
{
    outb(SLEEP_CONTROL, POWER_OFF);
    for (;;)
        __asm__ volatile("hlt");
}

void start(void) __attribute__((section(".text.start"), naked, noreturn, used));
void start(void) { __asm__ volatile("call main\n1: hlt\n jmp 1b"); }

#endif
