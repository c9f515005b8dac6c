/* SPDX-License-Identifier: MIT */
/* What Python sees. Read by the C compiler and by cffi's cdef(), which knows no preprocessor. */

/* line.c: a two-way line of bytes between a device (vCPU threads) and a stream (trio). */
typedef struct line line;

enum { OUTPUT_LIMIT = 65536, INPUT_LIMIT = 256 };

/* Eventfds, the caller's: output for an idle stream; input taken from a full buffer. NULL: no memory. */
line *line_new(int output_ready, int input_taken);
void line_free(line *);

/* The device's side: never blocks. */
void line_put(line *, uint8_t byte);
bool line_room(line *);
/* The next byte of input, or -1. */
int line_take(line *);

/* The stream's side. */
void line_set_attached(line *, bool attached);
/* Copies the oldest output, which stays. 0: there is none, and output_ready will tell. */
uint32_t line_peek(line *, uint8_t *into, uint32_t size);
void line_drop(line *, uint32_t count);
uint32_t line_unsent(line *);
/* Has the device been told that there is no room, and does it not know better since? Once. */
bool line_room_was_awaited(line *);
/* Bytes of input that fit. 0: none, and input_taken will tell. */
uint32_t line_input_room(line *);
/* No more than fit. */
void line_feed(line *, const uint8_t *data, uint32_t size);
uint64_t line_dropped(line *);

/* uart.c: a 16550A whose peer is a line. */
typedef struct uart uart;

/* Everything about it that a reset clears; counts and flags as in stratovirt.devices.serial. */
struct uart_state {
    uint8_t ier, fcr, lcr, mcr, scr;
    uint16_t divisor;
    bool overrun, thre_pending, level;
    uint8_t received_count;
    uint8_t received[16];
};

/* irq: address of a struct native_irq. NULL: no memory. */
uart *uart_new(line *, uintptr_t irq);
void uart_free(uart *);
/* Address of its struct native_device. */
uintptr_t uart_native(uart *);
uint8_t uart_read(uart *, uint32_t offset);
void uart_write(uart *, uint32_t offset, uint8_t value);
void uart_reset(uart *);
/* The line has input or room. From any thread. */
void uart_update(uart *);
void uart_save(uart *, struct uart_state *);
void uart_load(uart *, const struct uart_state *);

/* pages.c */
enum { CHECKSUM_LANES = 4 };

/* filled[i] says whether page i of guest memory has a byte that is not zero. */
void pages_filled(uintptr_t address, uint32_t count, uint32_t page_size, uint8_t *filled);
/* lanes[i] is the CRC-32C of every fourth 64-bit word, from word i on; length is a multiple of 32. */
void pages_checksum(const uint8_t *data, uint64_t length, uint32_t *lanes);

/* chains.h: where virtqueues are, and what their descriptors may point to. */
enum { MAX_RAM_REGIONS = 4 };

/* A run of guest RAM, at a host address. */
struct ram_region { uint64_t gpa, size; uintptr_t address; };

/* A queue: host addresses of its rings, which were checked; entries, a power of two. */
struct native_queue {
    uintptr_t descriptors, available, used;
    uint32_t size;
    bool indirect, event_idx;
};

/* Where both sides of a queue are, as stratovirt.devices.virtio.queue has it. */
struct queue_progress {
    uint16_t next, used_index, signalled;
    int32_t armed;
    bool interrupt; /* the driver wants to hear of what was done */
};

/* block.c: the plain reads and writes of a virtio block device. */
typedef struct block block;

/* The image: its file, byte by byte the disk. */
struct block_disk {
    int fd;
    bool writable;
    uint64_t sectors;
};

struct block_count { uint64_t operations, bytes, nanoseconds; };

/* written: address of a struct native_written, or 0. NULL: no memory, or too many regions. */
block *block_new(const struct ram_region *, uint32_t count, uintptr_t written);
void block_free(block *);
/* Why block_serve() has ended: the driver kicks when there is more; it is time for others; Python's turn. */
enum { BLOCK_EMPTY, BLOCK_MORE, BLOCK_PYTHON };
/* Serves at most so many requests, adding to counts[0] writes and to counts[1] reads. */
int block_serve(block *, const struct native_queue *, struct queue_progress *, const struct block_disk *,
                uint32_t most, struct block_count *counts);

/* net.c: frames of a virtio network card, between its queues and a descriptor that holds whole ones. */
typedef struct net net;

/* frames, and their bytes without headers. idle: no frame has come. */
struct net_passed {
    uint32_t chains, frames;
    uint64_t bytes;
    bool idle;
};

/* As block_new. */
net *net_new(const struct ram_region *, uint32_t count, uintptr_t written);
void net_free(net *);
/*
 * Passes at most so many frames from ring index next on. Both indices have moved by as many chains as it says.
 * Fewer frames: the queue is empty, no frame has come, or what comes next is for Python.
 */
struct net_passed net_receive(net *, const struct native_queue *, uint16_t next, uint16_t used_index, int fd,
                              bool mergeable, uint32_t most);
struct net_passed net_send(net *, const struct native_queue *, uint16_t next, uint16_t used_index, int fd,
                           uint32_t most);

/* heap.c: a place in this thread's heap, and what lies unused at that heap's end. */
void *heap_mark(void);
void heap_give_back(void *mark);
