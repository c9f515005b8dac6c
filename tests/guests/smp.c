/* smp N TOTAL: N threads, one on each of the first N CPUs, add one to a shared counter TOTAL times in all.
 *
 * Prints the sum; exits 0 when it is TOTAL. Every increment is a locked instruction on one cache line that
 * all CPUs want, so a lost or repeated one shows, whether `lock` is broken or an instruction ran twice. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_THREADS = 256 };

struct worker {
    pthread_t thread;
    int cpu;
    long increments;
};

static pthread_barrier_t start;
static long counter;

static void *increment(void *argument)
{
    struct worker *self = argument;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(self->cpu, &set);
    if (pthread_setaffinity_np(self->thread, sizeof set, &set) != 0)
        return "no such CPU";
    pthread_barrier_wait(&start);
    for (long left = self->increments; left > 0; left--)
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[MAX_THREADS];
    int n = argc == 3 ? atoi(argv[1]) : 0;
    long total = argc == 3 ? atol(argv[2]) : 0;

    if (n < 1 || n > MAX_THREADS || total < n)
        return fprintf(stderr, "usage: smp THREADS TOTAL\n"), 2;
    pthread_barrier_init(&start, NULL, n);
    for (int i = 0; i < n; i++) {
        workers[i].cpu = i;
        workers[i].increments = total / n + (i < total % n);
        if (pthread_create(&workers[i].thread, NULL, increment, &workers[i]) != 0)
            return puts("no thread"), 1;
    }
    for (int i = 0; i < n; i++) {
        void *failure;
        pthread_join(workers[i].thread, &failure);
        if (failure)
            return printf("cpu %d: %s\n", i, (char *)failure), 1;
    }
    printf("%ld\n", counter);
    return counter != total;
}
