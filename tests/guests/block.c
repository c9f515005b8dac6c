/*
 * How fast a disk is: sequential and random requests around the guest's page cache, for some seconds each.
 *
 *     block DEVICE MILLISECONDS
 *
 * The disk's first half is read and its second half written. Each sector begins with a stamp, its number
 * times STEP, which is checked of all that was read and set in all that is written. Prints NAME=VALUE for
 * each load, in bytes or requests per second, and written= with the bytes in the second half that hold
 * their stamps from here; exits 1 with a word of what was wrong.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STEP 0x9E3779B97F4A7C15u
enum { SECTOR = 512, SMALL = 4096, LARGE = 1 << 20, DEPTH = 32 };

static int disk;
static uint64_t half; /* bytes */
static double seconds;
static uint64_t seed = 1;

static void fail(const char *why, uint64_t offset)
{
    printf("%s at byte %llu\n", why, (unsigned long long)offset);
    exit(1);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* xorshift64 */
static uint64_t random_below(uint64_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % limit;
}

static void *buffer(size_t size)
{
    void *memory = aligned_alloc(SMALL, size);

    if (!memory)
        fail("no memory", 0);
    return memory;
}

static void check(const char *data, size_t size, uint64_t offset)
{
    for (size_t at = 0; at < size; at += SECTOR)
        if (*(const uint64_t *)(data + at) != (offset + at) / SECTOR * STEP)
            fail("wrong data", offset + at);
}

static void stamp(char *data, size_t size, uint64_t offset)
{
    for (size_t at = 0; at < size; at += SECTOR)
        *(uint64_t *)(data + at) = (offset + at) / SECTOR * STEP;
}

static void sequential_read(void)
{
    char *data = buffer(LARGE);
    uint64_t done = 0;
    double start = now(), end;

    while ((end = now()) < start + seconds) {
        if (pread(disk, data, LARGE, (off_t)(done % half)) != LARGE)
            fail("cannot read", done % half);
        check(data, LARGE, done % half);
        done += LARGE;
    }
    printf("read=%.0f ", (double)done / (end - start));
}

static void sequential_write(void)
{
    char *data = buffer(LARGE);
    uint64_t done = 0;
    double start = now(), end;

    while ((end = now()) < start + seconds) {
        stamp(data, LARGE, half + done % half);
        if (pwrite(disk, data, LARGE, (off_t)(half + done % half)) != LARGE)
            fail("cannot write", half + done % half);
        done += LARGE;
    }
    if (fsync(disk))
        fail("cannot flush", 0);
    printf("written=%llu write=%.0f ", (unsigned long long)(done < half ? done : half), (double)done / (end - start));
}

static void random_read(void)
{
    char *data = buffer(SMALL);
    uint64_t requests = 0;
    double start = now(), end;

    for (; (end = now()) < start + seconds; requests++) {
        uint64_t offset = random_below(half / SMALL) * SMALL;

        if (pread(disk, data, SMALL, (off_t)offset) != SMALL)
            fail("cannot read", offset);
        check(data, SMALL, offset);
    }
    printf("random=%.0f ", (double)requests / (end - start));
}

static void submit(aio_context_t context, struct iocb *request)
{
    request->aio_offset = (int64_t)(random_below(half / SMALL) * SMALL);
    if (syscall(SYS_io_submit, context, 1, &request) != 1)
        fail("cannot submit", (uint64_t)request->aio_offset);
}

static void deep_random_read(void)
{
    aio_context_t context = 0;
    struct iocb requests[DEPTH] = {0};
    struct io_event events[DEPTH];
    uint64_t done = 0;
    double start, end;

    if (syscall(SYS_io_setup, DEPTH, &context))
        fail("no asynchronous I/O", 0);
    for (int i = 0; i < DEPTH; i++) {
        requests[i].aio_lio_opcode = IOCB_CMD_PREAD;
        requests[i].aio_fildes = (uint32_t)disk;
        requests[i].aio_buf = (uintptr_t)buffer(SMALL);
        requests[i].aio_nbytes = SMALL;
        submit(context, &requests[i]);
    }
    start = now();
    while ((end = now()) < start + seconds) {
        long count = syscall(SYS_io_getevents, context, 1, DEPTH, events, NULL);

        for (long i = 0; i < count; i++, done++) {
            struct iocb *request = (struct iocb *)(uintptr_t)events[i].obj;

            if (events[i].res != SMALL)
                fail("cannot read", (uint64_t)request->aio_offset);
            check((char *)(uintptr_t)request->aio_buf, SMALL, (uint64_t)request->aio_offset);
            submit(context, request);
        }
    }
    printf("deep=%.0f ", (double)done / (end - start));
}

int main(int argc, char **argv)
{
    if (argc != 3 || (disk = open(argv[1], O_RDWR | O_DIRECT)) < 0)
        fail("no disk", 0);
    half = (uint64_t)lseek(disk, 0, SEEK_END) / 2 / LARGE * LARGE;
    seconds = atof(argv[2]) / 1000;
    sequential_read();
    sequential_write();
    random_read();
    deep_random_read();
    printf("\n");
    return 0;
}
