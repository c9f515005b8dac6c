/* The smallest drivers that use each virtio device once, with its interrupt; one line on the serial port per device
 * that is there, then power off. For accelerators that run no Linux. */

#include "bare.h"

#define IOAPIC 0xFEC00000ul
#define LAPIC 0xFEE00000ul
#define VECTOR 0x40

static const u8 gsis[SLOTS] = {16, 17, 18, 19, 20, 21, 22, 23, 5, 6, 7, 9, 10, 11, 14, 15};

static struct queue queues[6];
static u8 buffer[4096] __attribute__((aligned(4096)));
static volatile u32 interrupts;
static u64 slot; /* of the device in hand */

static void number(u64 value)
{
    char digits[24], *at = digits + 23;
    *at = 0;
    do
        *--at = '0' + value % 10;
    while (value /= 10);
    print(at);
}

/* -- interrupts ------------------------------------------------------------------------------------------ */

static struct { u16 low, selector, flags, middle; u32 high, zero; } idt[256] __attribute__((aligned(16)));

struct frame;

__attribute__((interrupt)) static void handle(struct frame *frame)
{
    (void)frame;
    interrupts++;
    write32(slot + INTERRUPT_ACK, read32(slot + INTERRUPT_STATUS));
    write32(LAPIC + 0xB0, 0);
}

static void ioapic(u8 index, u32 value)
{
    write32(IOAPIC, index);
    write32(IOAPIC + 0x10, value);
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

/* Level-triggered, active high (82093AA, 3.2.4). */
static void route(u8 gsi, int masked)
{
    ioapic(0x11 + 2 * gsi, 0);
    ioapic(0x10 + 2 * gsi, VECTOR | 1 << 15 | masked << 16);
}

/* -- queues ---------------------------------------------------------------------------------------------- */

static void begin(u32 queue_count)
{
    write32(slot + STATUS, 0);
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER);
    write32(slot + DRIVER_FEATURES_SEL, 1);
    write32(slot + DRIVER_FEATURES, 1); /* VERSION_1 */
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    for (u32 index = 0; index < queue_count; index++) {
        struct queue *queue = &queues[index];
        queue->available.index = queue->used.index = queue->seen = 0;
        write32(slot + QUEUE_SEL, index);
        write32(slot + QUEUE_NUM, RING_SIZE);
        write64(slot + QUEUE_DESC, (u64)queue->descriptors);
        write64(slot + QUEUE_DRIVER, (u64)&queue->available);
        write64(slot + QUEUE_DEVICE, (u64)&queue->used);
        write32(slot + QUEUE_READY, 1);
    }
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void describe(u32 index, u16 at, void *data, u32 length, u16 flags)
{
    queues[index].descriptors[at] = (struct descriptor){(u64)data, length, flags, at + 1};
}

/* Offer the chain that begins with descriptor 0, and sleep until the device has used it; the bytes it wrote. */
static u32 request(u32 index)
{
    struct queue *queue = &queues[index];
    u32 before = interrupts;
    queue->available.ring[queue->available.index % RING_SIZE] = 0;
    __atomic_store_n(&queue->available.index, queue->available.index + 1, __ATOMIC_SEQ_CST);
    write32(slot + QUEUE_NOTIFY, index);
    while (__atomic_load_n(&queue->used.index, __ATOMIC_SEQ_CST) == queue->seen || interrupts == before)
        __asm__ volatile("sti; hlt; cli"); /* only an interrupt lets it go on */
    return queue->used.ring[queue->seen++ % RING_SIZE].length;
}

/* -- devices --------------------------------------------------------------------------------------------- */

static u8 disk_request(u32 type, u64 sector, u32 length, u16 direction)
{
    static struct { u32 type, reserved; u64 sector; } header;
    static volatile u8 status;
    header.type = type;
    header.sector = sector;
    status = 0xFF;
    describe(0, 0, &header, 16, NEXT);
    if (length)
        describe(0, 1, buffer, length, NEXT | direction);
    describe(0, length ? 2 : 1, (void *)&status, 1, WRITE);
    request(0);
    return status;
}

static void disk(void)
{
    u64 sectors = read32(slot + CONFIG);
    print("disk of ");
    number(sectors);
    print(" sectors");
    if (!sectors)
        return;
    begin(1);
    for (u32 i = 0; i < sizeof buffer; i++)
        buffer[i] = i * 7;
    u8 written = disk_request(1, 8, sizeof buffer, 0);
    u8 flushed = disk_request(4, 0, 0, 0);
    for (u32 i = 0; i < sizeof buffer; i++)
        buffer[i] = 0;
    u8 read = disk_request(0, 8, sizeof buffer, WRITE);
    u32 same = 0;
    for (u32 i = 0; i < sizeof buffer; i++)
        same += buffer[i] == (u8)(i * 7);
    u8 outside = disk_request(0, sectors, 512, WRITE);
    print(written || flushed || read ? ": an error" : same == sizeof buffer ? ": read back" : ": other bytes");
    print(outside == 1 ? ", refuses what is behind its end" : ", reads behind its end");
}

static void entropy(void)
{
    begin(1);
    describe(0, 0, buffer, 64, WRITE);
    u32 length = request(0);
    u32 zeros = 0;
    for (u32 i = 0; i < length && i < 64; i++)
        zeros += !buffer[i];
    print("entropy: ");
    print(length > 0 && length <= 64 && zeros < 16 ? "random bytes" : "no random bytes");
}

static void console(void)
{
    static const char text[] = "hello from the console\n";
    begin(2);
    describe(1, 0, (void *)text, sizeof text - 1, 0);
    request(1);
    describe(0, 0, buffer, sizeof buffer, WRITE);
    print("console: said hello, heard ");
    number(request(0));
    print(" bytes");
}

static void balloon(void)
{
    static u32 pages[4];
    u64 before = read32(slot + CONFIG + 4);
    begin(2);
    for (u32 i = 0; i < 4; i++)
        pages[i] = (64 << 8) + i; /* page numbers, from 64 MiB on */
    describe(0, 0, pages, sizeof pages, 0);
    request(0);
    print("balloon: inflated, ");
    number(before);
    print(" pages before");
}

static void sockets(void)
{
    static struct {
        u64 source, target;
        u32 source_port, target_port, length;
        u16 type, operation;
        u32 flags, room, consumed;
    } __attribute__((packed)) sent = {.target = 2, .source_port = 5, .target_port = 7, .type = 1, .operation = 1}, *got;
    u64 address = read32(slot + CONFIG);
    begin(3);
    sent.source = address;
    describe(1, 0, &sent, sizeof sent, 0);
    request(1);
    describe(0, 0, buffer, sizeof buffer, WRITE);
    request(0);
    got = (void *)buffer;
    print("sockets: address ");
    number(address);
    print(got->operation == 3 && got->source_port == 7 && got->target_port == 5 ? ", refused" : ", no answer");
}

static void network(void)
{
    static u8 packet[12 + 60]; /* virtio_net_hdr_v1, then a broadcast frame of an experimental type */
    for (u32 i = 0; i < 6; i++)
        packet[12 + i] = 0xFF;
    packet[12 + 12] = 0x88;
    packet[12 + 13] = 0xB5;
    begin(2);
    describe(1, 0, packet, sizeof packet, 0);
    request(1);
    print("network: sent a frame");
}

static void use(u32 id)
{
    switch (id) {
    case 1: network(); break;
    case 2: disk(); break;
    case 3: console(); break;
    case 4: entropy(); break;
    case 5: balloon(); break;
    case 19: sockets(); break;
    default: print("device "); number(id); break;
    }
}

int main(void)
{
    enable_interrupts();
    for (u32 index = 0; index < SLOTS; index++) {
        slot = SLOT(index);
        if (read32(slot + MAGIC) != VIRT_MAGIC)
            continue;
        route(gsis[index], 0);
        use(read32(slot + DEVICE_ID));
        write32(slot + STATUS, 0);
        route(gsis[index], 1);
        print("\n");
    }
    print("all devices used, ");
    number(interrupts);
    print(" interrupts\n");
    power_off();
}
