/* SPDX-License-Identifier: MIT */
/*
 * The buffers of a byte line: stratovirt.chardev.port says what they promise.
 *
 * The law: the lock is held for a few instructions, and never while an eventfd is written. Where only
 * "empty" or "full" is asked, the positions are read without it: what is stale is put right by the one who
 * changes them, for he looks at the flags that the asker left.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

struct line {
    pthread_mutex_t lock;
    int output_ready, input_taken;
    bool attached;
    bool output_awaited; /* the stream is idle: the next byte of output has to wake it */
    bool room_awaited;   /* the device was told that there is no room */
    bool take_awaited;   /* the input buffer is full: the stream waits for the device to take some */
    uint64_t dropped;
    /* Positions only grow; their difference is what is in the ring. */
    uint32_t output_first, output_end, input_first, input_end;
    uint8_t output[OUTPUT_LIMIT], input[INPUT_LIMIT];
};

static uint32_t load(const uint32_t *position)
{
    return __atomic_load_n(position, __ATOMIC_SEQ_CST);
}

static void advance(uint32_t *position, uint32_t count)
{
    __atomic_store_n(position, *position + count, __ATOMIC_SEQ_CST);
}

static uint32_t unsent(const line *l)
{
    return load(&l->output_end) - load(&l->output_first);
}

static uint32_t untaken(const line *l)
{
    return load(&l->input_end) - load(&l->input_first);
}

static void wake(int eventfd)
{
    const uint64_t one = 1;

    while (write(eventfd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

line *line_new(int output_ready, int input_taken)
{
    line *l = calloc(1, sizeof *l);

    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    l->output_ready = output_ready;
    l->input_taken = input_taken;
    return l;
}

void line_free(line *l)
{
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* Makes room at the oldest end, if nobody reads. */
static bool may_append(line *l)
{
    if (unsent(l) < OUTPUT_LIMIT)
        return true;
    l->dropped++;
    if (l->attached)
        return false;
    advance(&l->output_first, 1);
    return true;
}

void line_put(line *l, uint8_t byte)
{
    bool awaited = false;

    pthread_mutex_lock(&l->lock);
    if (may_append(l)) {
        l->output[l->output_end % OUTPUT_LIMIT] = byte;
        advance(&l->output_end, 1);
        awaited = l->output_awaited;
        l->output_awaited = false;
    }
    pthread_mutex_unlock(&l->lock);
    if (awaited)
        wake(l->output_ready);
}

bool line_room(line *l)
{
    bool room;

    if (unsent(l) < OUTPUT_LIMIT)
        return true;
    pthread_mutex_lock(&l->lock);
    room = !l->attached || unsent(l) < OUTPUT_LIMIT;
    l->room_awaited = !room;
    pthread_mutex_unlock(&l->lock);
    return room;
}

int line_take(line *l)
{
    bool awaited = false;
    int byte = -1;

    if (!untaken(l))
        return -1;
    pthread_mutex_lock(&l->lock);
    if (untaken(l)) {
        byte = l->input[l->input_first % INPUT_LIMIT];
        advance(&l->input_first, 1);
        awaited = l->take_awaited && untaken(l) <= INPUT_LIMIT / 2;
        if (awaited)
            l->take_awaited = false;
    }
    pthread_mutex_unlock(&l->lock);
    if (awaited)
        wake(l->input_taken);
    return byte;
}

void line_set_attached(line *l, bool attached)
{
    pthread_mutex_lock(&l->lock);
    l->attached = attached;
    if (!attached)
        l->output_awaited = l->take_awaited = false;
    pthread_mutex_unlock(&l->lock);
}

/* Copies from a ring of `limit` bytes, or into it, in at most two pieces. */
static void copy_out(uint8_t *into, const uint8_t *ring, uint32_t limit, uint32_t position, uint32_t count)
{
    uint32_t start = position % limit, piece = limit - start < count ? limit - start : count;

    memcpy(into, ring + start, piece);
    memcpy(into + piece, ring, count - piece);
}

static void copy_in(uint8_t *ring, uint32_t limit, uint32_t position, const uint8_t *from, uint32_t count)
{
    uint32_t start = position % limit, piece = limit - start < count ? limit - start : count;

    memcpy(ring + start, from, piece);
    memcpy(ring, from + piece, count - piece);
}

uint32_t line_peek(line *l, uint8_t *into, uint32_t size)
{
    uint32_t count;

    pthread_mutex_lock(&l->lock);
    count = unsent(l) < size ? unsent(l) : size;
    copy_out(into, l->output, OUTPUT_LIMIT, l->output_first, count);
    l->output_awaited = !count;
    pthread_mutex_unlock(&l->lock);
    return count;
}

void line_drop(line *l, uint32_t count)
{
    pthread_mutex_lock(&l->lock);
    advance(&l->output_first, count);
    pthread_mutex_unlock(&l->lock);
}

uint32_t line_unsent(line *l)
{
    return unsent(l);
}

bool line_room_was_awaited(line *l)
{
    bool awaited;

    pthread_mutex_lock(&l->lock);
    awaited = l->room_awaited;
    l->room_awaited = false;
    pthread_mutex_unlock(&l->lock);
    return awaited;
}

uint32_t line_input_room(line *l)
{
    uint32_t room;

    pthread_mutex_lock(&l->lock);
    room = INPUT_LIMIT - untaken(l);
    l->take_awaited = !room;
    pthread_mutex_unlock(&l->lock);
    return room;
}

void line_feed(line *l, const uint8_t *data, uint32_t size)
{
    pthread_mutex_lock(&l->lock);
    copy_in(l->input, INPUT_LIMIT, l->input_end, data, size);
    advance(&l->input_end, size);
    pthread_mutex_unlock(&l->lock);
}

uint64_t line_dropped(line *l)
{
    uint64_t dropped;

    pthread_mutex_lock(&l->lock);
    dropped = l->dropped;
    pthread_mutex_unlock(&l->lock);
    return dropped;
}
