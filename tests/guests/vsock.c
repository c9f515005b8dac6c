/* What busybox lacks for AF_VSOCK; each exits 0 if it went well, and says what did not.
 *
 * vsock cid                   prints this guest's address
 * vsock connect CID PORT      standard input goes to the socket, and the socket to standard output
 * vsock listen PORT           the same with the first who connects
 * vsock echo PORT             whoever connects, any number at a time, gets back what they send
 * vsock many CID PORT COUNT   COUNT connections at a time, each of which says its number and is to hear it */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum { CHUNK = 1 << 16, MAX_CONNECTIONS = 1024 };

static int fail(const char *what)
{
    printf("vsock: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int copy(int from, int to)
{
    static char buffer[CHUNK];
    ssize_t length;

    while ((length = read(from, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0, more; done < length; done += more)
            if ((more = write(to, buffer + done, length - done)) < 0)
                return -1;
    return length;
}

static struct sockaddr_vm address(unsigned cid, const char *port)
{
    return (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = strtoul(port, NULL, 0)};
}

static int connected(const char *cid, const char *port)
{
    struct sockaddr_vm peer = address(strtoul(cid, NULL, 0), port);
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (void *)&peer, sizeof peer) < 0)
        fail("connect");
    return fd;
}

static int listening(const char *port)
{
    struct sockaddr_vm here = address(VMADDR_CID_ANY, port);
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (void *)&here, sizeof here) < 0 || listen(fd, 128) < 0)
        fail("listen");
    return fd;
}

static int accepted(int listener)
{
    int fd = accept(listener, NULL, NULL);

    return fd < 0 ? fail("accept") : fd;
}

/* Both ways until the other end sends no more and our input has ended. */
static int pipe_through(int fd)
{
    int status;
    pid_t sender = fork();

    if (sender == 0) {
        int failed = copy(0, fd) < 0;
        shutdown(fd, SHUT_WR);
        _exit(failed);
    }
    if (copy(fd, 1) < 0)
        fail("receive");
    waitpid(sender, &status, 0);
    return status != 0;
}

static int echo(int listener)
{
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accepted(listener);
        if (fork() == 0)
            _exit(copy(fd, fd) < 0);
        close(fd);
    }
}

static int many(const char *cid, const char *port, int count)
{
    static int fds[MAX_CONNECTIONS];

    if (count < 1 || count > MAX_CONNECTIONS)
        return puts("vsock: too many"), 2;
    for (int i = 0; i < count; i++) {
        fds[i] = connected(cid, port);
        if (write(fds[i], &i, sizeof i) != sizeof i)
            fail("write");
    }
    for (int i = 0; i < count; i++) {
        int answer = -1;
        if (recv(fds[i], &answer, sizeof answer, MSG_WAITALL) != sizeof answer || answer != i)
            return printf("vsock: connection %d heard %d\n", i, answer), 1;
    }
    return printf("%d\n", count), 0;
}

static int own_cid(void)
{
    unsigned cid;
    int fd = open("/dev/vsock", O_RDONLY);

    if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
        fail("/dev/vsock");
    return printf("%u\n", cid), 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && !strcmp(verb, "cid"))
        return own_cid();
    if (argc == 4 && !strcmp(verb, "connect"))
        return pipe_through(connected(argv[2], argv[3]));
    if (argc == 3 && !strcmp(verb, "listen"))
        return pipe_through(accepted(listening(argv[2])));
    if (argc == 3 && !strcmp(verb, "echo"))
        return echo(listening(argv[2]));
    if (argc == 5 && !strcmp(verb, "many"))
        return many(argv[2], argv[3], atoi(argv[4]));
    return puts("usage: vsock cid | connect CID PORT | listen PORT | echo PORT | many CID PORT COUNT"), 2;
}
