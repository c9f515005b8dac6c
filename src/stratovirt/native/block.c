/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of a virtio block queue (virtio 1.2 §2.7, §5.2.6), from its rings to the image's file.
 *
 * The law: C does what goes well and nothing else. Whatever is not a plain read or write that the host
 * carries out whole (another type, a broken rule, the end of the disk, an error) stays in the queue as if it
 * had not been looked at, for Python, which says what becomes of it. The driver is hostile: what was checked
 * is what is used, so each number in guest memory is loaded once.
 */
#include <time.h>

#include "chains.h"

enum { REQUEST_IN = 0, REQUEST_OUT = 1, SECTOR_SIZE = 512 };

/* Nanoseconds after which a batch ends, so that the driver hears of what is done. */
enum { BATCH_NANOSECONDS = 250 * 1000 };

struct request_header { uint32_t type, reserved; uint64_t sector; };

struct block {
    struct chains chain; /* in hand */
};

block *block_new(const struct ram_region *regions, uint32_t count, uintptr_t written)
{
    block *b = calloc(1, sizeof *b);

    if (b && !set_memory(&b->chain, regions, count, written)) {
        free(b);
        return NULL;
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

/* Carries out the chain in hand. What it gave or took: 0 if it is for Python. */
static uint64_t carry_out(struct chains *c, const struct block_disk *disk, bool *reads)
{
    struct request_header header;
    struct iovec *parts = c->parts, *last = &c->parts[c->count - 1];
    uint32_t count = c->count;
    uint8_t *status;
    uint64_t length;
    ssize_t done;

    if (!c->readable || c->readable == c->count || parts[0].iov_len < sizeof header)
        return 0;
    memcpy(&header, parts[0].iov_base, sizeof header);
    __asm__ volatile("" ::: "memory"); /* load it once */
    *reads = header.type == REQUEST_IN;
    if (!*reads && (header.type != REQUEST_OUT || !disk->writable))
        return 0;
    status = (uint8_t *)last->iov_base + last->iov_len - 1;
    if (*reads) {
        parts += c->readable;
        count -= c->readable;
        if (!--last->iov_len)
            count--;
    } else {
        count = c->readable;
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

uint32_t block_serve(block *b, const struct native_queue *queue, uint16_t next, uint16_t used_index,
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
        if (!walk(&b->chain, queue, head))
            break;
        taken = (uint32_t)total(b->chain.parts + b->chain.readable, b->chain.count - b->chain.readable);
        if (!(length = carry_out(&b->chain, disk, &reads)))
            break;
        tell_written(&b->chain, taken);
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
