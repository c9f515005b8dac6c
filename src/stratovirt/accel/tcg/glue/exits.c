/* SPDX-License-Identifier: GPL-2.0-only */
/* Where guest code leaves for the outside: ports, MMIO, exceptions, interrupts. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

enum { VECTOR_NMI = 2 };

static uint32_t port_read(machine *m, uint32_t port, uint32_t size)
{
    uint8_t value;

    return size == 1 && native_read(&m->ports, port, &value) ? value : exit_port_read(m->exits, port, size);
}

static void port_write(machine *m, uint32_t port, uint32_t size, uint32_t value)
{
    if (size != 1 || !native_write(&m->ports, port, value))
        exit_port_write(m->exits, port, size, value);
}

#define PORT_READ(name, type)                                                                                  \
    INTERPOSED type name##_x86_64(uc_engine *uc, uint32_t port, uintptr_t pc)                                  \
    {                                                                                                          \
        return here ? port_read(here, port, sizeof(type)) : unicorn.name(uc, port, pc);                        \
    }
#define PORT_WRITE(name, type)                                                                                 \
    INTERPOSED void name##_x86_64(uc_engine *uc, uint32_t port, type value, uintptr_t pc)                      \
    {                                                                                                          \
        if (here)                                                                                              \
            port_write(here, port, sizeof(type), value);                                                       \
        else                                                                                                   \
            unicorn.name(uc, port, value, pc);                                                                 \
    }
PORT_READ(cpu_inb, uint8_t)
PORT_READ(cpu_inw, uint16_t)
PORT_READ(cpu_inl, uint32_t)
PORT_WRITE(cpu_outb, uint8_t)
PORT_WRITE(cpu_outw, uint16_t)
PORT_WRITE(cpu_outl, uint32_t)

int tcg_add_native(machine *m, uint32_t first, uint32_t count, uintptr_t device)
{
    return native_add(&m->ports, first, count, (const struct native_device *)device) ? 0 : -1;
}

void set_irq_line(void *owner, uint32_t gsi, bool level)
{
    exit_irq_line(((machine *)owner)->exits, gsi, level);
}

uintptr_t tcg_native_irq(machine *m, uint32_t gsi)
{
    return (uintptr_t)&m->irqs[gsi];
}

uint64_t hole_read(uc_engine *uc, uint64_t offset, unsigned size, void *data)
{
    struct hole *hole = data;
    machine *m = hole->machine;

    (void)uc;
    return m->current ? exit_mmio_read(m->exits, m->current->index, hole->gpa + offset, size) : UINT64_MAX;
}

static bool matches(const struct ioeventfd *e, uint64_t address, uint32_t size, uint64_t value)
{
    return e->address == address && e->size == size && (e->any || e->value == value);
}

static bool signal_ioeventfd(machine *m, uint64_t address, uint32_t size, uint64_t value)
{
    const uint64_t one = 1;
    bool found = false;

    pthread_mutex_lock(&m->lock);
    for (int i = 0; i < m->ioeventfd_count && !found; i++)
        if (matches(&m->ioeventfds[i], address, size, value))
            /* A full counter is a kick that nobody has fetched yet. */
            found = write(m->ioeventfds[i].fd, &one, sizeof one) || true;
    pthread_mutex_unlock(&m->lock);
    return found;
}

void hole_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data)
{
    struct hole *hole = data;
    machine *m = hole->machine;

    (void)uc;
    if (m->current && !signal_ioeventfd(m, hole->gpa + offset, size, value))
        exit_mmio_write(m->exits, m->current->index, hole->gpa + offset, size, value);
}

int tcg_add_ioeventfd(machine *m, int fd, uint64_t address, uint32_t size, bool any, uint64_t value)
{
    struct ioeventfd *room;

    pthread_mutex_lock(&m->lock);
    if (m->ioeventfd_count == m->ioeventfd_room) {
        room = realloc(m->ioeventfds, (m->ioeventfd_room + 32) * sizeof *room);
        if (room) {
            m->ioeventfds = room;
            m->ioeventfd_room += 32;
        }
    }
    if (m->ioeventfd_count < m->ioeventfd_room)
        m->ioeventfds[m->ioeventfd_count++] = (struct ioeventfd){fd, address, size, any, value};
    else
        fd = -1;
    pthread_mutex_unlock(&m->lock);
    return fd;
}

void tcg_remove_ioeventfd(machine *m, int fd, uint64_t address, uint32_t size, bool any, uint64_t value)
{
    pthread_mutex_lock(&m->lock);
    for (int i = 0; i < m->ioeventfd_count; i++) {
        struct ioeventfd *e = &m->ioeventfds[i];
        if (e->fd == fd && e->any == any && matches(e, address, size, value)) {
            *e = m->ioeventfds[--m->ioeventfd_count];
            break;
        }
    }
    pthread_mutex_unlock(&m->lock);
}

/* UC_HOOK_INTR: the library has noted the exception; let it deliver. A fault on the way leaves by longjmp. */
void deliver_exception(uc_engine *uc, uint32_t vector, void *data)
{
    (void)vector, (void)data;
    unicorn.x86_cpu_do_interrupt(FIELD(CPUState *, uc, UC_CPU));
}

/* UC_HOOK_INSN_INVALID: #UD, which the library keeps apart. */
bool deliver_invalid_opcode(uc_engine *uc, void *data)
{
    (void)data;
    unicorn.x86_cpu_do_interrupt(FIELD(CPUState *, uc, UC_CPU));
    return true;
}

static bool deliver_nmi(struct vcpu *v)
{
    uint32_t *hflags2 = &FIELD(uint32_t, v->env, ENV_HFLAGS2);

    if (*hflags2 & HFLAGS2_IN_NMI)
        return false;
    __atomic_and_fetch(&v->events, ~EVENT_NMI, __ATOMIC_SEQ_CST);
    *hflags2 |= HFLAGS2_IN_NMI;
    unicorn.do_interrupt_x86_hardirq(v->env, VECTOR_NMI, 1);
    return true;
}

static bool deliver_interrupt(struct vcpu *v)
{
    int vector;

    if (!(FIELD(uint64_t, v->env, ENV_EFLAGS) & FLAG_IF) ||
        FIELD(uint32_t, v->env, ENV_HFLAGS) & HFLAGS_INHIBIT_INTERRUPT)
        return false;
    /* First, so that a request which comes while the controller is asked is not lost. */
    __atomic_and_fetch(&v->events, ~EVENT_INTERRUPT, __ATOMIC_SEQ_CST);
    vector = exit_acknowledge(v->machine->exits, v->index);
    if (vector < 0)
        return false;
    if (vector & TCG_ACKNOWLEDGED_MORE)
        __atomic_or_fetch(&v->events, EVENT_INTERRUPT, __ATOMIC_SEQ_CST);
    unicorn.do_interrupt_x86_hardirq(v->env, vector & ~TCG_ACKNOWLEDGED_MORE, 1);
    return true;
}

/* Delivers an event, if there is one that the vCPU takes now. May leave by longjmp. */
bool deliver_event(struct vcpu *v)
{
    uint32_t events = __atomic_load_n(&v->events, __ATOMIC_SEQ_CST);

    if (events & EVENT_NMI && deliver_nmi(v))
        return true;
    return events & EVENT_INTERRUPT && deliver_interrupt(v);
}
