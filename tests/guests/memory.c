/* memory: fills memory with a pattern, reads it back, and says how much of it lies above 4 GiB.
 *
 * Linux gives out the highest zone first, so in a guest with RAM above the 4 GiB hole these pages come
 * from there; /proc/self/pagemap tells. Prints "pages=P above_4g=A"; exits 1 when a word was lost. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 16384, WORDS = PAGE / sizeof(uint64_t) }; /* 64 MiB */

static const uint64_t FRAME = (UINT64_C(1) << 55) - 1;      /* pagemap: the page frame number */
static const uint64_t FIRST_HIGH_FRAME = UINT64_C(1) << 20; /* 4 GiB / 4 KiB */

static uint64_t pattern(uint64_t page, uint64_t word)
{
    return (page * WORDS + word) * UINT64_C(0x9e3779b97f4a7c15); /* odd: each word its own value */
}

int main(void)
{
    uint64_t(*memory)[WORDS] =
        mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int pagemap = open("/proc/self/pagemap", O_RDONLY);
    long high = 0;

    if (memory == MAP_FAILED || pagemap < 0)
        return puts("no memory or no pagemap"), 1;
    for (uint64_t page = 0; page < PAGES; page++)
        for (uint64_t word = 0; word < WORDS; word++)
            memory[page][word] = pattern(page, word);
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t entry = 0;
        off_t offset = (off_t)((uintptr_t)memory[page] / PAGE * sizeof entry);
        if (pread(pagemap, &entry, sizeof entry, offset) != sizeof entry)
            return puts("pagemap cannot be read"), 1;
        high += (entry & FRAME) >= FIRST_HIGH_FRAME;
        for (uint64_t word = 0; word < WORDS; word++)
            if (memory[page][word] != pattern(page, word))
                return printf("page %lu word %lu is lost\n", page, word), 1;
    }
    printf("pages=%d above_4g=%ld\n", PAGES, high);
    return 0;
}
