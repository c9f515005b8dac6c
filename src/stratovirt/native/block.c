/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of a virtio block queue (virtio 1.2 §2.7, §5.2.6), from its rings to the image's file.
 *
 * The law: C does what goes well and nothing else. Whatever is not a plain read or write that the host
 * carries out whole (another type, a broken rule, the end of the disk, an error) stays in the queue as if it
 * had not been looked at, for Python, which says what becomes of it. The driver is hostile: what was checked
 * is what is used, so each number in guest memory is loaded once.
 */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "chains.h"

enum { NO_INTERRUPT = 1 };
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

/* The fence of stratovirt.devices.virtio.barrier, which has made it available. */
static void full_barrier(void)
{
    enum { PRIVATE_EXPEDITED = 1 << 3 };

    syscall(SYS_membarrier, PRIVATE_EXPEDITED, 0, 0);
}

/* Asks for a kick at the next chain. False: it came meanwhile. */
static bool arm(const struct native_queue *queue, struct queue_progress *where, bool *fenced)
{
    struct used_ring *used = (struct used_ring *)queue->used;

    if (!queue->event_idx || where->armed == where->next)
        return true;
    __atomic_store_n((uint16_t *)&used->elements[queue->size], where->next, __ATOMIC_RELAXED);
    where->armed = where->next;
    full_barrier();
    *fenced = true;
    return !backlog(queue, where->next);
}

/* Virtio 1.2 §2.7.7.2; fenced: since the used index was stored. */
static bool wants_interrupt(const struct native_queue *queue, struct queue_progress *where, bool fenced)
{
    const struct available_ring *available = (const struct available_ring *)queue->available;
    const uint16_t old = where->signalled, new = where->used_index;
    uint16_t event;

    if (old == new)
        return false;
    if (!fenced)
        full_barrier();
    where->signalled = new;
    if (!queue->event_idx)
        return !(__atomic_load_n(&available->flags, __ATOMIC_RELAXED) & NO_INTERRUPT);
    event = __atomic_load_n(&available->heads[queue->size], __ATOMIC_RELAXED);
    return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* Serves the next chain, there is one; false: it is for Python. */
static bool serve_one(block *b, const struct native_queue *queue, struct queue_progress *where,
                      const struct block_disk *disk, uint64_t *now, struct block_count counts[2])
{
    struct used_ring *used = (struct used_ring *)queue->used;
    const uint16_t mask = (uint16_t)(queue->size - 1);
    const uint64_t before = *now;
    const uint32_t head = head_at(queue, where->next);
    uint32_t taken;
    uint64_t length;
    bool reads;

    if (!walk(&b->chain, queue, head))
        return false;
    taken = (uint32_t)total(b->chain.parts + b->chain.readable, b->chain.count - b->chain.readable);
    if (!(length = carry_out(&b->chain, disk, &reads)))
        return false;
    tell_written(&b->chain, taken);
    used->elements[where->used_index & mask].head = head;
    used->elements[where->used_index & mask].length = taken;
    where->next++;
    __atomic_store_n(&used->index, ++where->used_index, __ATOMIC_RELEASE);
    *now = nanoseconds();
    counts[reads].operations++;
    counts[reads].bytes += length;
    counts[reads].nanoseconds += *now - before;
    return true;
}

int block_serve(block *b, const struct native_queue *queue, struct queue_progress *where, const struct block_disk *disk,
                uint32_t most, struct block_count counts[2])
{
    const uint64_t start = nanoseconds();
    uint64_t now = start;
    bool fenced = false;
    int end = BLOCK_MORE;

    for (; end == BLOCK_MORE && most && now - start < BATCH_NANOSECONDS; most--) {
        if (!backlog(queue, where->next) && arm(queue, where, &fenced))
            end = BLOCK_EMPTY;
        else if (backlog(queue, where->next) > queue->size || !serve_one(b, queue, where, disk, &now, counts))
            end = BLOCK_PYTHON;
        else
            fenced = false;
    }
    where->interrupt = wants_interrupt(queue, where, fenced);
    return end;
}
