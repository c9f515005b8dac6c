/* A driver that breaks every rule it can: any value in any register of any device, rings full of nonsense, and
 * now and then a well-formed negotiation, so that the nonsense gets as far as a device's own code.
 * It says "." after each round and never ends. */

#include "bare.h"

#ifndef SEED
#define SEED 1
#endif

#define ROUND 64
#define PACKETS 16
#define QUEUES 6 /* as many as a console with two ports has */

static u64 state = SEED * 0x9E3779B97F4A7C15ul | 1;
static struct queue queues[QUEUES];
static u8 buffers[1 << 16] __attribute__((aligned(4096)));

static struct { /* virtio_vsock_hdr */
    u64 source, target;
    u32 source_port, target_port, length;
    u16 type, operation;
    u32 flags, room, consumed;
} __attribute__((packed)) packets[PACKETS];

static u64 any(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static u64 below(u64 limit) { return any() % limit; }

/* An address as a driver may give it: mostly in RAM, sometimes at an edge, sometimes anything. */
static u64 any_address(void)
{
    switch (below(8)) {
    case 0: return any();
    case 1: return (u64)queues + below(sizeof queues);
    case 2: return (128ul << 20) - below(64);
    case 3: return (u64)&packets[below(PACKETS)];
    default: return (u64)buffers + below(sizeof buffers);
    }
}

static u32 any_length(void)
{
    static const u32 lengths[] = {0, 1, 2, 4, 8, 12, 16, 24, 36, 44, 512, 4096, 65536, 0x7FFFFFFF, 0xFFFFFFFF};
    return below(4) ? lengths[below(sizeof lengths / sizeof *lengths)] : (u32)any();
}

static void scribble(struct queue *queue)
{
    for (int i = 0; i < RING_SIZE; i++) {
        struct descriptor *d = &queue->descriptors[i];
        d->address = any_address();
        d->length = any_length();
        d->flags = below(16) ? below(4) : below(8);
        d->next = below(8) ? (u64)(i + 1) % RING_SIZE : any();
        queue->available.ring[i] = below(16) ? below(RING_SIZE) : any();
    }
    for (int i = 0; i < 64; i++)
        *(u64 *)(buffers + 8 * below(sizeof buffers / 8)) = below(2) ? below(16) : any();
    if (below(2)) {
        queue->descriptors[0] = (struct descriptor){(u64)&packets[below(PACKETS)], sizeof *packets, 0, 0};
        queue->available.ring[queue->available.index % RING_SIZE] = 0;
    }
    for (int i = 0; i < PACKETS; i++) {
        packets[i].source = below(8) ? 3 : any();
        packets[i].target = below(8) ? 2 : any();
        packets[i].source_port = below(2) ? below(4) : 1ul << 30;
        packets[i].target_port = below(2);
        packets[i].length = below(2) ? 0 : below(4) ? below(64) : any();
        packets[i].type = below(8) ? 1 : any();
        packets[i].operation = below(9);
        packets[i].flags = any();
        packets[i].room = below(2) ? below(64) : any();
        packets[i].consumed = below(2) ? below(64) : any();
    }
    queue->available.index += below(16) ? below(RING_SIZE) : any();
    queue->available.flags = below(4);
    queue->available.used_event = any();
}

/* As a well-behaved driver begins: the device comes alive with rings of ours. */
static void negotiate(u64 slot)
{
    write32(slot + STATUS, 0);
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER);
    for (u32 page = 0; page < 2; page++) {
        write32(slot + DEVICE_FEATURES_SEL, page);
        write32(slot + DRIVER_FEATURES_SEL, page);
        write32(slot + DRIVER_FEATURES, read32(slot + DEVICE_FEATURES) & (below(4) ? ~0u : (u32)any() | page));
    }
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    for (u32 index = 0; index < QUEUES; index++) {
        struct queue *queue = &queues[index];
        queue->available.index = 0;
        write32(slot + QUEUE_SEL, index);
        write32(slot + QUEUE_NUM, RING_SIZE);
        write64(slot + QUEUE_DESC, (u64)queue->descriptors);
        write64(slot + QUEUE_DRIVER, (u64)&queue->available);
        write64(slot + QUEUE_DEVICE, (u64)&queue->used);
        write32(slot + QUEUE_READY, 1);
    }
    write32(slot + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void any_access(u64 slot)
{
    u64 address = slot + below(0x200);
    u64 value = below(2) ? any() : below(16);
    switch (below(7)) {
    case 0: *(volatile u8 *)address = value; break;
    case 1: *(volatile u16 *)address = value; break;
    case 2: *(volatile u32 *)(address & ~3ul) = value; break;
    case 3: *(volatile u64 *)address = value; break;
    case 4: (void)*(volatile u8 *)address; break;
    case 5: (void)*(volatile u32 *)(address & ~3ul); break;
    case 6: (void)*(volatile u64 *)address; break;
    }
}

int main(void)
{
    for (;;) {
        u64 slot = SLOT(below(SLOTS));
        if (read32(slot + MAGIC) != VIRT_MAGIC)
            continue;
        for (int i = 0; i < ROUND; i++) {
            u64 choice = below(64);
            if (choice == 0 || read32(slot + STATUS) & NEEDS_RESET) {
                negotiate(slot);
            } else if (choice < 24) {
                u32 index = below(QUEUES);
                scribble(&queues[index]);
                write32(slot + QUEUE_NOTIFY, index);
            } else if (choice < 32) {
                any_access(slot);
            } else {
                write32(slot + INTERRUPT_ACK, read32(slot + INTERRUPT_STATUS));
            }
        }
        put('.');
    }
}
