/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of a virtio block queue (virtio 1.2 §2.7, §5.2.6), from its rings to the image's file.
 *
 * The law: C does what goes well and nothing else. Whatever is not a plain read or write that the host
 * carries out whole (another type, a broken rule, the end of the disk, an error) stays in the queue as if it
 * had not been looked at, for Python, which says what becomes of it. The driver is hostile: what was checked
 * is what is used, so each number in guest memory is loaded once.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "internal.h"
#include "native.h"

enum { DESCRIPTOR_NEXT = 1, DESCRIPTOR_WRITE = 2, DESCRIPTOR_INDIRECT = 4 };
enum { REQUEST_IN = 0, REQUEST_OUT = 1, SECTOR_SIZE = 512, MAX_CHAIN = 1024 };

/* Nanoseconds after which a batch ends, so that the driver hears of what is done. */
enum { BATCH_NANOSECONDS = 250 * 1000 };

struct descriptor { uint64_t address; uint32_t length; uint16_t flags, next; };
struct request_header { uint32_t type, reserved; uint64_t sector; };

struct available_ring { uint16_t flags, index, heads[]; };
struct used_ring { uint16_t flags, index; struct { uint32_t head, length; } elements[]; };

struct segment { uint64_t gpa; uint32_t length; };

struct block {
    const struct native_written *written; /* NULL: nobody has to know */
    uint32_t region_count;
    struct ram_region regions[MAX_RAM_REGIONS];
    /* Of the chain in hand: what the driver gives, then what it takes; gpas of the latter. */
    uint32_t readable, count;
    struct iovec parts[MAX_CHAIN];
    struct segment writable[MAX_CHAIN];
};

block *block_new(const struct ram_region *regions, uint32_t count, uintptr_t written)
{
    block *b = count <= MAX_RAM_REGIONS ? calloc(1, sizeof *b) : NULL;

    if (b) {
        b->written = (const struct native_written *)written;
        b->region_count = count;
        memcpy(b->regions, regions, count * sizeof *regions);
    }
    return b;
}

void block_free(block *b)
{
    free(b);
}

static uint64_t nanoseconds(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Where guest memory is here; NULL: it is not all in one region of RAM. */
static void *at(const block *b, uint64_t gpa, uint32_t length)
{
    for (uint32_t i = 0; i < b->region_count; i++) {
        const struct ram_region *region = &b->regions[i];

        if (gpa >= region->gpa && gpa - region->gpa < region->size && length <= region->size - (gpa - region->gpa))
            return (void *)(region->address + (gpa - region->gpa));
    }
    return NULL;
}

static struct descriptor load_descriptor(const struct descriptor *from)
{
    const volatile struct descriptor *once = from;

    return (struct descriptor){once->address, once->length, once->flags, once->next};
}

/* Adds a segment to the chain in hand. */
static bool add(block *b, const struct descriptor *d)
{
    void *here = at(b, d->address, d->length);
    bool writable = d->flags & DESCRIPTOR_WRITE;

    if (!here || !d->length || (!writable && b->readable != b->count))
        return false;
    if (writable)
        b->writable[b->count - b->readable] = (struct segment){d->address, d->length};
    else
        b->readable++;
    b->parts[b->count++] = (struct iovec){here, d->length};
    return true;
}

/* Takes the chain at head in hand. */
static bool walk(block *b, const struct block_queue *queue, uint32_t head)
{
    const struct descriptor *table = (const struct descriptor *)queue->descriptors;
    uint32_t entries = queue->size, next = head, left;
    bool indirect = false;

    b->readable = b->count = 0;
    for (left = entries; left && b->count < MAX_CHAIN; left--) {
        struct descriptor d;

        if (next >= entries)
            return false;
        d = load_descriptor(&table[next]);
        if (d.flags & DESCRIPTOR_INDIRECT) {
            if (indirect || !queue->indirect || d.flags & DESCRIPTOR_NEXT || d.length % sizeof d)
                return false;
            table = at(b, d.address, d.length);
            entries = d.length / sizeof d;
            if (!table || (uintptr_t)table % _Alignof(struct descriptor))
                return false;
            indirect = true;
            next = 0;
            left = entries + 1;
            continue;
        }
        if (!add(b, &d))
            return false;
        if (!(d.flags & DESCRIPTOR_NEXT))
            return true;
        next = d.next;
    }
    return false;
}

static uint64_t total(const struct iovec *parts, uint32_t count)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

/* Lets the accelerator know of all that the device may write in this chain. */
static void tell_written(const block *b)
{
    if (b->written)
        for (uint32_t i = 0; i < b->count - b->readable; i++)
            b->written->call(b->written->owner, b->writable[i].gpa, b->writable[i].length);
}

/* Carries out the chain in hand. What it gave or took: 0 if it is for Python. */
static uint64_t carry_out(block *b, const struct block_disk *disk, bool *reads)
{
    struct request_header header;
    struct iovec *parts = b->parts, *last = &b->parts[b->count - 1];
    uint32_t count = b->count;
    uint8_t *status;
    uint64_t length;
    ssize_t done;

    if (!b->readable || b->readable == b->count || parts[0].iov_len < sizeof header)
        return 0;
    memcpy(&header, parts[0].iov_base, sizeof header);
    __asm__ volatile("" ::: "memory"); /* load it once */
    *reads = header.type == REQUEST_IN;
    if (!*reads && (header.type != REQUEST_OUT || !disk->writable))
        return 0;
    status = (uint8_t *)last->iov_base + last->iov_len - 1;
    if (*reads) {
        parts += b->readable;
        count -= b->readable;
        if (!--last->iov_len)
            count--;
    } else {
        count = b->readable;
        parts[0].iov_base = (uint8_t *)parts[0].iov_base + sizeof header;
        parts[0].iov_len -= sizeof header;
        if (!parts[0].iov_len)
            parts++, count--;
    }
    length = total(parts, count);
    if (!length || length % SECTOR_SIZE || header.sector > disk->sectors ||
        length / SECTOR_SIZE > disk->sectors - header.sector)
        return 0;
    done = (*reads ? preadv : pwritev)(disk->fd, parts, (int)count, (off_t)(header.sector * SECTOR_SIZE));
    if (done < 0 || (uint64_t)done != length)
        return 0;
    *status = 0;
    return length;
}

uint32_t block_serve(block *b, const struct block_queue *queue, uint16_t next, uint16_t used_index,
                     const struct block_disk *disk, uint32_t most, struct block_count counts[2])
{
    struct available_ring *available = (struct available_ring *)queue->available;
    struct used_ring *used = (struct used_ring *)queue->used;
    const uint16_t mask = (uint16_t)(queue->size - 1);
    const uint64_t start = nanoseconds();
    uint64_t before = start, now;
    uint32_t served = 0;

    for (; served < most && before - start < BATCH_NANOSECONDS; served++, before = now) {
        uint16_t waiting = (uint16_t)(__atomic_load_n(&available->index, __ATOMIC_ACQUIRE) - next);
        uint32_t head, taken;
        uint64_t length;
        bool reads;

        if (!waiting || waiting > queue->size)
            break;
        head = __atomic_load_n(&available->heads[next & mask], __ATOMIC_RELAXED);
        if (!walk(b, queue, head))
            break;
        taken = (uint32_t)total(b->parts + b->readable, b->count - b->readable);
        if (!(length = carry_out(b, disk, &reads)))
            break;
        tell_written(b);
        used->elements[used_index & mask].head = head;
        used->elements[used_index & mask].length = taken;
        next++;
        __atomic_store_n(&used->index, ++used_index, __ATOMIC_RELEASE);
        now = nanoseconds();
        counts[reads].operations++;
        counts[reads].bytes += length;
        counts[reads].nanoseconds += now - before;
    }
    return served;
}
