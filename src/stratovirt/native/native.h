/* SPDX-License-Identifier: MIT */
/*
 * How C of one extension reaches C of another, without Python and its lock between them: devices are given
 * to an accelerator, and interrupt lines to devices, as addresses of these structures.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A device's one-byte ports. Called on vCPU threads, without the GIL; false: ask the device's Python half. */
struct native_device {
    void *device;
    bool (*read)(void *device, uint32_t offset, uint8_t *value);
    bool (*write)(void *device, uint32_t offset, uint8_t value);
};

/* An interrupt input of an accelerator's. From any thread, without the GIL. */
struct native_irq {
    void *owner;
    uint32_t gsi;
    void (*set_level)(void *owner, uint32_t gsi, bool level);
};

/* Who has to know of guest memory that the host has written. From any thread, without the GIL. */
struct native_written {
    void *owner;
    void (*call)(void *owner, uint64_t gpa, uint64_t length);
};

enum { MAX_NATIVE_DEVICES = 4 };

/* Which ports have such a device; complete before a vCPU runs. */
struct native_ports {
    int count;
    struct native_range { uint32_t first, count; const struct native_device *device; } ranges[MAX_NATIVE_DEVICES];
};

static inline bool native_add(struct native_ports *ports, uint32_t first, uint32_t count,
                              const struct native_device *device)
{
    if (ports->count == MAX_NATIVE_DEVICES)
        return false;
    ports->ranges[ports->count++] = (struct native_range){first, count, device};
    return true;
}

static inline const struct native_range *native_at(const struct native_ports *ports, uint32_t port)
{
    for (int i = 0; i < ports->count; i++)
        if (port - ports->ranges[i].first < ports->ranges[i].count)
            return &ports->ranges[i];
    return 0;
}

static inline bool native_read(const struct native_ports *ports, uint32_t port, uint8_t *value)
{
    const struct native_range *at = native_at(ports, port);

    return at && at->device->read(at->device->device, port - at->first, value);
}

static inline bool native_write(const struct native_ports *ports, uint32_t port, uint8_t value)
{
    const struct native_range *at = native_at(ports, port);

    return at && at->device->write(at->device->device, port - at->first, value);
}
