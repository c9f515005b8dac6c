/* SPDX-License-Identifier: MIT */
/*
 * Frames into receive queues and out of transmit queues (virtio 1.2 §2.7, §5.1.6).
 *
 * The law is block.c's: what does not go well stays in the queue, and in the descriptor, as if it had not been
 * looked at. So a frame is taken only when there is room for the largest.
 */
#include <errno.h>

#include "chains.h"

enum { NET_HEADER = 12, NUM_BUFFERS = 10, ETHERNET_HEADER = 14, MAX_FRAME = NET_HEADER + ETHERNET_HEADER + 4 + 0xFFFF };

struct net {
    struct chains chains; /* in hand */
    /* Of a frame's buffers: heads, and bytes in each. */
    uint32_t heads[MAX_CHAIN], lengths[MAX_CHAIN];
};

net *net_new(const struct ram_region *regions, uint32_t count, uintptr_t written)
{
    net *n = calloc(1, sizeof *n);

    if (n && !set_memory(&n->chains, regions, count, written)) {
        free(n);
        return NULL;
    }
    return n;
}

void net_free(net *n)
{
    free(n);
}

/* Chains that wait from ring index next on; 0 also where there are more than there can be. */
static uint32_t waiting(const struct native_queue *queue, uint16_t next)
{
    uint16_t count = backlog(queue, next);

    return count <= queue->size ? count : 0;
}

/* Takes buffers for the largest frame in hand; without mergeable, it has to fit into the first. */
static bool take_buffers(net *n, const struct native_queue *queue, uint16_t next, bool mergeable)
{
    struct chains *c = &n->chains;
    uint32_t most = mergeable ? waiting(queue, next) : waiting(queue, next) > 0;
    uint64_t room = 0;

    c->readable = c->count = 0;
    for (uint32_t i = 0; room < MAX_FRAME && i < most && i < MAX_CHAIN; i++) {
        uint32_t before = c->count;

        n->heads[i] = head_at(queue, (uint16_t)(next + i));
        if (!append(c, queue, n->heads[i]) || c->readable)
            return false;
        room += n->lengths[i] = (uint32_t)total(c->parts + before, c->count - before);
    }
    return room >= MAX_FRAME && c->parts[0].iov_len >= NET_HEADER;
}

/* Gives a frame of that length to the driver; how many buffers it fills. */
static uint16_t deliver(net *n, const struct native_queue *queue, uint16_t used_index, uint32_t length)
{
    struct used_ring *used = (struct used_ring *)queue->used;
    uint32_t left = length;
    uint16_t buffers = 0;

    for (; left; buffers++) {
        uint32_t part = n->lengths[buffers] < left ? n->lengths[buffers] : left;
        uint32_t at = (uint16_t)(used_index + buffers) & (queue->size - 1);

        used->elements[at].head = n->heads[buffers];
        used->elements[at].length = part;
        left -= part;
    }
    memcpy((uint8_t *)n->chains.parts[0].iov_base + NUM_BUFFERS, &buffers, sizeof buffers);
    tell_written(&n->chains, length);
    __atomic_store_n(&used->index, (uint16_t)(used_index + buffers), __ATOMIC_RELEASE);
    return buffers;
}

struct net_passed net_receive(net *n, const struct native_queue *queue, uint16_t next, uint16_t used_index, int fd,
                              bool mergeable, uint32_t most)
{
    struct net_passed passed = {0};

    while (passed.frames < most && take_buffers(n, queue, next, mergeable)) {
        ssize_t length = readv(fd, n->chains.parts, (int)n->chains.count);
        uint16_t buffers;

        if (length < NET_HEADER) {
            passed.idle = length < 0 && errno == EAGAIN;
            break;
        }
        buffers = deliver(n, queue, used_index, (uint32_t)length);
        next += buffers;
        used_index += buffers;
        passed.chains += buffers;
        passed.frames++;
        passed.bytes += (uint64_t)length - NET_HEADER;
    }
    return passed;
}

struct net_passed net_send(net *n, const struct native_queue *queue, uint16_t next, uint16_t used_index, int fd,
                           uint32_t most)
{
    struct used_ring *used = (struct used_ring *)queue->used;
    struct chains *c = &n->chains;
    struct net_passed passed = {0};

    while (passed.frames < most && waiting(queue, next)) {
        uint32_t head = head_at(queue, next++), at = used_index & (queue->size - 1);
        uint64_t length;

        if (!walk(c, queue, head) || c->readable != c->count)
            break;
        length = total(c->parts, c->count);
        if (length < NET_HEADER + ETHERNET_HEADER || length > MAX_FRAME || writev(fd, c->parts, (int)c->count) < 0)
            break;
        used->elements[at].head = head;
        used->elements[at].length = 0;
        __atomic_store_n(&used->index, ++used_index, __ATOMIC_RELEASE);
        passed.frames++;
        passed.bytes += length - NET_HEADER;
    }
    passed.chains = passed.frames;
    return passed;
}
