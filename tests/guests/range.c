/*
 * What a program does with a range of a disk: range discard|zero DEVICE OFFSET LENGTH, in bytes.
 * Its exit status is 0 if the kernel did it.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
    uint64_t range[2];
    int disk;

    if (argc != 5 || (disk = open(argv[2], O_RDWR)) < 0) {
        perror(argc > 2 ? argv[2] : "usage");
        return 1;
    }
    range[0] = strtoull(argv[3], NULL, 0);
    range[1] = strtoull(argv[4], NULL, 0);
    if (ioctl(disk, strcmp(argv[1], "zero") ? BLKDISCARD : BLKZEROOUT, range)) {
        perror(argv[1]);
        return 1;
    }
    return 0;
}
