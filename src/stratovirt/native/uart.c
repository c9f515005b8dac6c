/* SPDX-License-Identifier: MIT */
/*
 * The 16550A of stratovirt.devices.serial, function by function: that file says why, this one is fast. A
 * boot of Linux touches these registers 36,000 times; through Python each took 1.8 us and a turn of the GIL.
 *
 * The law: whatever the guest does, both give the same values, bytes and interrupts; tests/device compares.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "native.h"

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };
enum { IER_RX = 1, IER_THRE = 2, IER_LINE = 4 };
enum { IIR_NONE = 0x01, IIR_THRE = 0x02, IIR_RX = 0x04, IIR_LINE = 0x06, IIR_FIFOS = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum { LSR_DATA = 0x01, LSR_OVERRUN = 0x02, LSR_THRE = 0x20, LSR_IDLE = 0x40 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };
enum { FIFO_DEPTH = 16, DIVISOR_9600 = 12 };

struct uart {
    struct native_device native;
    line *line;
    const struct native_irq *irq;
    pthread_mutex_t lock; /* of the state; held while the interrupt line is driven */
    struct uart_state s;
};

static void receive(struct uart_state *s, uint8_t byte)
{
    if (s->received_count == FIFO_DEPTH)
        s->overrun = true;
    else
        s->received[s->received_count++] = byte;
}

/* Moves what the line has into the receive FIFO. */
static void fill(uart *u)
{
    int byte;

    while (u->s.received_count < FIFO_DEPTH && !(u->s.mcr & MCR_LOOP) && (byte = line_take(u->line)) >= 0)
        u->s.received[u->s.received_count++] = byte;
}

static uint8_t cause(uart *u)
{
    if (u->s.overrun && u->s.ier & IER_LINE)
        return IIR_LINE;
    if (u->s.ier & IER_RX) {
        fill(u);
        if (u->s.received_count)
            return IIR_RX;
    }
    return u->s.thre_pending && u->s.ier & IER_THRE && line_room(u->line) ? IIR_THRE : IIR_NONE;
}

static void drive(uart *u, bool level)
{
    u->s.level = level;
    u->irq->set_level(u->irq->owner, u->irq->gsi, level);
}

static void update(uart *u)
{
    bool level = u->s.ier && cause(u) != IIR_NONE;

    if (level != u->s.level)
        drive(u, level);
}

static uint8_t read_rbr(uart *u)
{
    uint8_t byte;

    fill(u);
    if (!u->s.received_count)
        return 0;
    byte = u->s.received[0];
    memmove(u->s.received, u->s.received + 1, --u->s.received_count);
    return byte;
}

static uint8_t read_lsr(uart *u)
{
    uint8_t status;

    fill(u);
    status = (u->s.received_count ? LSR_DATA : 0) | (u->s.overrun ? LSR_OVERRUN : 0);
    u->s.overrun = false;
    return status | (line_room(u->line) ? LSR_THRE | LSR_IDLE : 0);
}

static uint8_t read_iir(uart *u)
{
    uint8_t pending = cause(u);

    if (pending == IIR_THRE)
        u->s.thre_pending = false;
    return pending | (u->s.fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t modem_status(uint8_t mcr)
{
    if (!(mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) | (mcr & MCR_OUT1 ? MSR_RI : 0) |
           (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t read_register(uart *u, uint32_t offset)
{
    bool dlab = u->s.lcr & LCR_DLAB;

    switch (offset) {
    case RBR_THR:
        return dlab ? u->s.divisor & 0xff : read_rbr(u);
    case IER:
        return dlab ? u->s.divisor >> 8 : u->s.ier;
    case IIR_FCR:
        return read_iir(u);
    case LCR:
        return u->s.lcr;
    case MCR:
        return u->s.mcr;
    case LSR:
        return read_lsr(u);
    case MSR:
        return modem_status(u->s.mcr);
    default:
        return u->s.scr;
    }
}

static void transmit(uart *u, uint8_t value)
{
    if (u->s.mcr & MCR_LOOP)
        receive(&u->s, value);
    else
        line_put(u->line, value);
    u->s.thre_pending = true;
}

static void write_ier(uart *u, uint8_t value)
{
    if (value & ~u->s.ier & IER_THRE)
        u->s.thre_pending = true;
    u->s.ier = value & 0x0f;
}

static void write_register(uart *u, uint32_t offset, uint8_t value)
{
    bool dlab = u->s.lcr & LCR_DLAB;

    switch (offset) {
    case RBR_THR:
        if (dlab)
            u->s.divisor = (u->s.divisor & 0xff00) | value;
        else
            transmit(u, value);
        break;
    case IER:
        if (dlab)
            u->s.divisor = (u->s.divisor & 0xff) | value << 8;
        else
            write_ier(u, value);
        break;
    case IIR_FCR:
        u->s.fcr = value;
        if (value & FCR_CLEAR_RX)
            u->s.received_count = 0;
        break;
    case LCR:
        u->s.lcr = value;
        break;
    case MCR:
        u->s.mcr = value & 0x1f;
        break;
    case SCR:
        u->s.scr = value;
        break;
    }
}

uint8_t uart_read(uart *u, uint32_t offset)
{
    uint8_t value;

    pthread_mutex_lock(&u->lock);
    value = read_register(u, offset);
    if (offset != LSR)
        update(u);
    pthread_mutex_unlock(&u->lock);
    return value;
}

void uart_write(uart *u, uint32_t offset, uint8_t value)
{
    pthread_mutex_lock(&u->lock);
    write_register(u, offset, value);
    update(u);
    pthread_mutex_unlock(&u->lock);
}

void uart_update(uart *u)
{
    pthread_mutex_lock(&u->lock);
    update(u);
    pthread_mutex_unlock(&u->lock);
}

void uart_reset(uart *u)
{
    pthread_mutex_lock(&u->lock);
    u->s = (struct uart_state){.divisor = DIVISOR_9600};
    drive(u, false);
    pthread_mutex_unlock(&u->lock);
}

void uart_save(uart *u, struct uart_state *state)
{
    pthread_mutex_lock(&u->lock);
    *state = u->s;
    pthread_mutex_unlock(&u->lock);
}

void uart_load(uart *u, const struct uart_state *state)
{
    pthread_mutex_lock(&u->lock);
    u->s = *state;
    drive(u, u->s.level);
    pthread_mutex_unlock(&u->lock);
}

static bool read_natively(void *device, uint32_t offset, uint8_t *value)
{
    *value = uart_read(device, offset);
    return true;
}

/* Somebody may be listening to the scratch register, in Python. */
static bool write_natively(void *device, uint32_t offset, uint8_t value)
{
    if (offset == SCR)
        return false;
    uart_write(device, offset, value);
    return true;
}

uart *uart_new(line *l, uintptr_t irq)
{
    uart *u = calloc(1, sizeof *u);

    if (!u)
        return NULL;
    pthread_mutex_init(&u->lock, NULL);
    u->native = (struct native_device){u, read_natively, write_natively};
    u->line = l;
    u->irq = (const struct native_irq *)irq;
    uart_reset(u);
    return u;
}

void uart_free(uart *u)
{
    pthread_mutex_destroy(&u->lock);
    free(u);
}

uintptr_t uart_native(uart *u)
{
    return (uintptr_t)&u->native;
}
