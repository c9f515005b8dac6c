/* SPDX-License-Identifier: MIT */
/*
 * Descriptor chains of split virtqueues (virtio 1.2 §2.7), for devices whose work C repeats.
 *
 * The driver is hostile: what was checked is what is used, so each number in guest memory is loaded once. A
 * chain that breaks a rule is not for C; Python says what becomes of it.
 */
#pragma once

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "internal.h"
#include "native.h"

enum { DESCRIPTOR_NEXT = 1, DESCRIPTOR_WRITE = 2, DESCRIPTOR_INDIRECT = 4 };
enum { MAX_CHAIN = 1024 };

struct descriptor { uint64_t address; uint32_t length; uint16_t flags, next; };
struct available_ring { uint16_t flags, index, heads[]; };
struct used_ring { uint16_t flags, index; struct { uint32_t head, length; } elements[]; };

struct segment { uint64_t gpa; uint32_t length; };

/* Guest memory, and the chains in hand. */
struct chains {
    const struct native_written *written; /* NULL: nobody has to know */
    uint32_t region_count;
    struct ram_region regions[MAX_RAM_REGIONS];
    /* What the driver gives, then what it takes; gpas of the latter. */
    uint32_t readable, count;
    struct iovec parts[MAX_CHAIN];
    struct segment writable[MAX_CHAIN];
};

/* Chains that wait from ring index next on, if the driver is to be believed. */
static uint16_t backlog(const struct native_queue *queue, uint16_t next)
{
    const struct available_ring *available = (const struct available_ring *)queue->available;

    return (uint16_t)(__atomic_load_n(&available->index, __ATOMIC_ACQUIRE) - next);
}

static uint32_t head_at(const struct native_queue *queue, uint16_t at)
{
    const struct available_ring *available = (const struct available_ring *)queue->available;

    return __atomic_load_n(&available->heads[at & (queue->size - 1)], __ATOMIC_RELAXED);
}

/* Of zeroed memory; false: there are too many regions. */
static bool set_memory(struct chains *c, const struct ram_region *regions, uint32_t count, uintptr_t written)
{
    if (count > MAX_RAM_REGIONS)
        return false;
    c->written = (const struct native_written *)written;
    c->region_count = count;
    memcpy(c->regions, regions, count * sizeof *regions);
    return true;
}

/* Where guest memory is here; NULL: it is not all in one region of RAM. */
static void *at(const struct chains *c, uint64_t gpa, uint32_t length)
{
    for (uint32_t i = 0; i < c->region_count; i++) {
        const struct ram_region *region = &c->regions[i];

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

/* Adds a segment to the chains in hand. */
static bool add(struct chains *c, const struct descriptor *d)
{
    void *here = at(c, d->address, d->length);
    bool writable = d->flags & DESCRIPTOR_WRITE;

    if (!here || !d->length || (!writable && c->readable != c->count))
        return false;
    if (writable)
        c->writable[c->count - c->readable] = (struct segment){d->address, d->length};
    else
        c->readable++;
    c->parts[c->count++] = (struct iovec){here, d->length};
    return true;
}

/* Takes the chain at head in hand, behind those that are. */
static bool append(struct chains *c, const struct native_queue *queue, uint32_t head)
{
    const struct descriptor *table = (const struct descriptor *)queue->descriptors;
    uint32_t entries = queue->size, next = head, left;
    bool indirect = false;

    for (left = entries; left && c->count < MAX_CHAIN; left--) {
        struct descriptor d;

        if (next >= entries)
            return false;
        d = load_descriptor(&table[next]);
        if (d.flags & DESCRIPTOR_INDIRECT) {
            if (indirect || !queue->indirect || d.flags & DESCRIPTOR_NEXT || d.length % sizeof d)
                return false;
            table = at(c, d.address, d.length);
            entries = d.length / sizeof d;
            if (!table || (uintptr_t)table % _Alignof(struct descriptor))
                return false;
            indirect = true;
            next = 0;
            left = entries + 1;
            continue;
        }
        if (!add(c, &d))
            return false;
        if (!(d.flags & DESCRIPTOR_NEXT))
            return true;
        next = d.next;
    }
    return false;
}

/* Takes the chain at head in hand, and no other. */
static bool walk(struct chains *c, const struct native_queue *queue, uint32_t head)
{
    c->readable = c->count = 0;
    return append(c, queue, head);
}

static uint64_t total(const struct iovec *parts, uint32_t count)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

/* Lets the accelerator know of the first bytes that the driver takes, which the device has written. */
static void tell_written(const struct chains *c, uint64_t bytes)
{
    for (uint32_t i = 0; c->written && bytes; i++) {
        uint64_t length = c->writable[i].length < bytes ? c->writable[i].length : bytes;

        c->written->call(c->written->owner, c->writable[i].gpa, length);
        bytes -= length;
    }
}
