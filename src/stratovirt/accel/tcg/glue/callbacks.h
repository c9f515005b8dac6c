/* SPDX-License-Identifier: GPL-2.0-only */
/* What the glue asks of Python, on the thread in tcg_run() unless said otherwise. The first argument is that of tcg_new(). */

uint32_t exit_port_read(void *exits, uint32_t port, uint32_t size);
void exit_port_write(void *exits, uint32_t port, uint32_t size, uint32_t value);
/* Drives an interrupt input. From any thread. */
void exit_irq_line(void *exits, uint32_t gsi, bool level);
uint64_t exit_mmio_read(void *exits, int cpu, uint64_t address, uint32_t size);
void exit_mmio_write(void *exits, int cpu, uint64_t address, uint32_t size, uint64_t value);
/* false: #GP(0). */
bool exit_msr_write(void *exits, int cpu, uint32_t index, uint64_t value);
bool exit_msr_read(void *exits, int cpu, uint32_t index, uint64_t *value);
uint64_t exit_cr8_read(void *exits, int cpu);
void exit_cr8_write(void *exits, int cpu, uint64_t value);
/* Whether acknowledging would return a vector. */
bool exit_pending(void *exits, int cpu);
/* Vector to deliver, or -1; TCG_ACKNOWLEDGED_MORE is added while another would follow. */
int exit_acknowledge(void *exits, int cpu);
/* Guest time in ns of the next timer expiry, INT64_MAX for none. */
int64_t exit_next_deadline(void *exits);
/* Fires the timers that are due, and gives the next deadline. */
int64_t exit_expire(void *exits);
