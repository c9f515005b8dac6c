/*
 * How fast TCP is between the guest and a server on the host, both ways, for some time each.
 *
 *     tcp ADDRESS PORT MILLISECONDS
 *
 * The first connection brings data here, the second takes data there, and after it the server says how many
 * bytes have come, as eight bytes of x86. The data repeats after PERIOD bytes; each sector of it begins with
 * a stamp, its number times STEP. Prints NAME=VALUE for each direction, in bytes per second; exits 1 with a
 * word of what was wrong.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STEP 0x9E3779B97F4A7C15u
enum { SECTOR = 512, BLOCK = 1 << 17, PERIOD = 1 << 20 };

static struct sockaddr_in server = {.sin_family = AF_INET};
static double seconds;
static char data[PERIOD];

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

static uint64_t *sector(uint64_t offset)
{
    return (uint64_t *)(data + offset % PERIOD);
}

static int connection(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (connect(fd, (struct sockaddr *)&server, sizeof server))
        fail("cannot connect", 0);
    return fd;
}

static void receive(void)
{
    int fd = connection();
    uint64_t done = 0;
    double start = now(), end;

    while ((end = now()) < start + seconds) {
        if (recv(fd, sector(done), BLOCK, MSG_WAITALL) != BLOCK)
            fail("cannot receive", done);
        for (uint64_t at = done; at < done + BLOCK; at += SECTOR) {
            if (*sector(at) != at % PERIOD / SECTOR * STEP)
                fail("wrong data", at);
            *sector(at) = 0;
        }
        done += BLOCK;
    }
    printf("received=%.0f ", (double)done / (end - start));
    close(fd);
}

static void transmit(void)
{
    int fd = connection();
    uint64_t done = 0, arrived = 0;
    double start = now();

    for (uint64_t at = 0; at < PERIOD; at += SECTOR)
        *sector(at) = at / SECTOR * STEP;
    for (; now() < start + seconds; done += BLOCK)
        for (ssize_t sent = 0, part; sent < BLOCK; sent += part)
            if ((part = send(fd, data + done % PERIOD + sent, (size_t)(BLOCK - sent), 0)) <= 0)
                fail("cannot send", done);
    shutdown(fd, SHUT_WR);
    if (recv(fd, &arrived, sizeof arrived, MSG_WAITALL) != sizeof arrived || arrived != done)
        fail("something is missing", arrived);
    printf("sent=%.0f ", (double)done / (now() - start));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 4 || !inet_aton(argv[1], &server.sin_addr))
        fail("no address", 0);
    server.sin_port = htons((uint16_t)atoi(argv[2]));
    seconds = atof(argv[3]) / 1000;
    receive();
    transmit();
    printf("\n");
    return 0;
}
