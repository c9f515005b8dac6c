"""What cannot be used is refused in one line that names the option, its value and the reason."""

import shlex

import pytest

from stratovirt.cli import parse, refuse_not_built
from stratovirt.cli.values import MAX_SOCKET_PATH
from stratovirt.errors import OptionError
from tests.cli.commands import config


def refusal(text: str) -> str:
    """The error line for ``text``, written as for a shell; a kernel is there unless ``text`` says which."""
    words = shlex.split(text)
    with pytest.raises(OptionError) as caught:
        parse(words if "-kernel" in words else [*words, "-kernel", "vmlinux"])
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("-kernal vmlinux", "-kernal: unknown option; did you mean -kernel?"),
        ("-nosuchthing", "-nosuchthing: unknown option; -h lists them"),
        ("---smp 2", "--smp: unknown option; did you mean -smp?"),
        ("-machine=q35", "-machine=q35: unknown option; did you mean -machine?"),
        ("disk.img", "disk.img: not an option; options start with '-'"),
        (
            "-smp",
            "-smp: "
            "needs a value: [cpus=]N[,maxcpus=N][,sockets=N][,dies=N][,clusters=N][,cores=N][,threads=N]",
        ),
        ("-smp 2 4", "-smp 2 4: takes one value; '4' is too much"),
        ("-daemonize yes", "-daemonize yes: takes no value; 'yes' is too much"),
        ("-append", "-append: needs a value: TEXT..."),
        ("-machine pc", "-machine pc: type must be microvm, q35 or none"),
        (
            "-machine microvm,acel=kvm",
            "-machine microvm,acel=kvm: no sub-option 'acel'; did you mean accel?",
        ),
        ("-machine acel=kvm", "-machine acel=kvm: no sub-option 'acel'; did you mean accel?"),
        ("-machine microvm,accel=xen", "-machine microvm,accel=xen: accel must be kvm, tcg or kvm:tcg"),
        ("-machine microvm,usb=on", "-machine microvm,usb=on: usb must be off"),
        ("-machine microvm,acpi=maybe", "-machine microvm,acpi=maybe: acpi must be on, off or auto"),
        ("-machine microvm,mem-share=2", "-machine microvm,mem-share=2: mem-share must be on or off"),
        ("-machine microvm,,accel=kvm", "-machine microvm,,accel=kvm: type must be microvm, q35 or none"),
        ("-machine microvm,", "-machine microvm,: a sub-option is empty"),
        ("-machine microvm -machine q35", "-machine q35: -machine may be given only once"),
        (
            "-machine microvm,accel=kvm,accel=tcg",
            "-machine microvm,accel=kvm,accel=tcg: accel is given twice",
        ),
        ("-accel hvf", "-accel hvf: must be kvm, tcg or kvm:tcg"),
        ("-accel kvm -machine accel=tcg", "-accel kvm: -machine says accel=tcg"),
        ("-cpu max", "-cpu max: model must be host, not 'max'"),
        ("-cpu host,avx", "-cpu host,avx: feature 'avx' must be +NAME or -NAME"),
        ("-cpu host,+", "-cpu host,+: feature '+' must be +NAME or -NAME"),
        ("-cpu host,", "-cpu host,: feature '' must be +NAME or -NAME"),
        ("-cpu host,+avx,-avx", "-cpu host,+avx,-avx: feature avx is both added and removed"),
        ("-smp 0", "-smp 0: cpus must be a number from 1 to 254"),
        ("-smp 255", "-smp 255: cpus must be a number from 1 to 254"),
        ("-smp two", "-smp two: cpus must be a number from 1 to 254"),
        (
            "-smp -1",
            "-smp: "
            "needs a value: [cpus=]N[,maxcpus=N][,sockets=N][,dies=N][,clusters=N][,cores=N][,threads=N]",
        ),
        ("-smp maxcpus=2", "-smp maxcpus=2: cpus=N is missing"),
        ("-smp 4,maxcpus=2", "-smp 4,maxcpus=2: cpus=4 is more than maxcpus=2"),
        (
            "-smp 4,sockets=3",
            "-smp 4,sockets=3: sockets=3 * dies=1 * clusters=1 * cores=1 * threads=1 is not maxcpus=4",
        ),
        (
            "-smp 4,sockets=2,cores=1,threads=1",
            "-smp 4,sockets=2,cores=1,threads=1: "
            "sockets=2 * dies=1 * clusters=1 * cores=1 * threads=1 is not maxcpus=4",
        ),
        ("-smp 2,core=2", "-smp 2,core=2: no sub-option 'core'; did you mean cores?"),
        ("-m 64", "-m 64: size must be 128M to 512G"),
        ("-m 127M", "-m 127M: size must be 128M to 512G"),
        ("-m 513G", "-m 513G: size must be 128M to 512G"),
        ("-m 1.5G", "-m 1.5G: size must be a number with an optional suffix K, M or G"),
        ("-m ''", "-m '': size must be a number with an optional suffix K, M or G"),
        ("-m 131073K", "-m 131073K: size must be a multiple of 4K"),
        ("-m 512MB", "-m 512MB: size must be a number with an optional suffix K, M or G"),
        (
            "-m 999999999999999999999999",
            "-m 999999999999999999999999: size must be a number with an optional suffix K, M or G",
        ),
        ("-mem-path ''", "-mem-path '': must not be empty"),
        ("-name ''", "-name '': guest must be 1 to 255 printable characters"),
        ("-name a=b", "-name a=b: no sub-option 'a'; use guest"),
        ("-uuid 1234", "-uuid 1234: must be 8-4-4-4-12 hexadecimal digits"),
        ("-kernel a -kernel b", "-kernel b: -kernel may be given only once"),
        ("-kernel ''", "-kernel '': must not be empty"),
        ("-incoming exec:cat", "-incoming exec:cat: directory must be file:DIR"),
        ("-incoming file:", "-incoming file:: directory must be file:DIR"),
        ("-D a b", "-D a b: takes one value; 'b' is too much"),
        (
            "-serial com1",
            "-serial com1: must be stdio, pty, file, null, ringbuf, socket, chardev:ID, mon:stdio or none",
        ),
        (
            "-serial chardev:",
            "-serial chardev:: "
            "chardev must be 1 to 255 letters, digits, '-', '.' or '_', the first a letter or digit",
        ),
        ("-serial chardev:con", "-serial chardev:con: no -chardev has this id; none is defined"),
        (
            "-serial socket,server,nowait",
            "-serial socket,server,nowait: needs either path=PATH or both host=IP and port=PORT",
        ),
        ("-serial stdio -serial pty", "-serial pty: -serial may be given only once"),
        ("-qmp unix:/tmp/s", "-qmp unix:/tmp/s: server[=on|off] is missing"),
        (
            "-qmp unix:/tmp/s,server=off",
            "-qmp unix:/tmp/s,server=off: server must be on: a monitor is the listening side",
        ),
        ("-qmp unix:,server,nowait", "-qmp unix:,server,nowait: address must not be empty"),
        (
            "-qmp /tmp/s,server,nowait",
            "-qmp /tmp/s,server,nowait: address must be unix:PATH or tcp:IP:PORT",
        ),
        (
            "-qmp tcp:localhost:4444,server,nowait",
            "-qmp tcp:localhost:4444,server,nowait: "
            "address must be tcp:IP:PORT, the IP as 127.0.0.1 or [::1], the port 1 to 65535",
        ),
        (
            "-qmp tcp:127.0.0.1,server,nowait",
            "-qmp tcp:127.0.0.1,server,nowait: "
            "address must be tcp:IP:PORT, the IP as 127.0.0.1 or [::1], the port 1 to 65535",
        ),
        (
            "-qmp tcp:127.0.0.1:0,server,nowait",
            "-qmp tcp:127.0.0.1:0,server,nowait: "
            "address must be tcp:IP:PORT, the IP as 127.0.0.1 or [::1], the port 1 to 65535",
        ),
        (
            "-qmp tcp:127.0.0.1:65536,server,nowait",
            "-qmp tcp:127.0.0.1:65536,server,nowait: "
            "address must be tcp:IP:PORT, the IP as 127.0.0.1 or [::1], the port 1 to 65535",
        ),
        (
            "-qmp unix:/tmp/s,server,nowait,throttle=drop",
            "-qmp unix:/tmp/s,server,nowait,throttle=drop: throttle must be delay or reject",
        ),
        (
            "-qmp unix:/tmp/s,server,nowait,wait=off",
            "-qmp unix:/tmp/s,server,nowait,wait=off: wait and nowait are the same switch: give one",
        ),
        (
            "-qmp unix:/tmp/s,server,nowait -qmp unix:/tmp/s,server",
            "-qmp unix:/tmp/s: another listener has this address already",
        ),
        (
            "-qmp unix:/tmp/s,server,nowait -device virtio-vsock-device,guest-cid=3,uds-path=/tmp/s",
            "-device virtio-vsock-device,uds-path=/tmp/s: another listener has this address already",
        ),
        (
            "-qmp unix:/tmp/s,server,nowait -chardev socket,id=c,path=/tmp/s,server",
            "-chardev unix:/tmp/s: another listener has this address already",
        ),
        ("-mon c", "-mon c: mode=control|readline is missing"),
        ("-mon c,mode=readline", "-mon chardev=c: no -chardev has this id; none is defined"),
        ("-mon c,mode=qmp", "-mon c,mode=qmp: mode must be control or readline"),
        (
            "-mon con1,mode=control -chardev null,id=con0",
            "-mon chardev=con1: no -chardev has this id; did you mean con0?",
        ),
        (
            "-mon c,mode=control -mon c,mode=control -chardev null,id=c",
            "-mon chardev=c: -mon chardev=c uses it already",
        ),
        (
            "-mon c,mode=control -serial chardev:c -chardev null,id=c",
            "-mon chardev=c: -serial chardev:c uses it already",
        ),
        (
            "-mon a,mode=control,id=m -mon b,mode=control,id=m -chardev null,id=a -chardev null,id=b",
            "-mon id=m: another -mon has this id",
        ),
        ("-chardev file,id=c", "-chardev file,id=c: path=FILE is missing"),
        ("-chardev stdio", "-chardev stdio: id=ID is missing"),
        (
            "-chardev id=c",
            "-chardev id=c: no backend 'id=c'; use stdio, pty, file, null, ringbuf or socket",
        ),
        (
            "-chardev sokcet,id=c,path=/tmp/s",
            "-chardev sokcet,id=c,path=/tmp/s: no backend 'sokcet'; did you mean socket?",
        ),
        (
            "-chardev null,id=a/b",
            "-chardev null,id=a/b: "
            "id must be 1 to 255 letters, digits, '-', '.' or '_', the first a letter or digit",
        ),
        ("-chardev null,id", "-chardev null,id: id needs a value: id=ID"),
        ("-chardev null,id=c -chardev null,id=c", "-chardev id=c: another -chardev has this id"),
        ("-chardev ringbuf,id=c,size=1000", "-chardev ringbuf,id=c,size=1000: size must be a power of two"),
        (
            "-chardev socket,id=c",
            "-chardev socket,id=c: needs either path=PATH or both host=IP and port=PORT",
        ),
        (
            "-chardev socket,id=c,path=/tmp/s,port=1",
            "-chardev socket,id=c,path=/tmp/s,port=1: needs either path=PATH or both host=IP and port=PORT",
        ),
        (
            "-chardev socket,id=c,host=::1,port=http",
            "-chardev socket,id=c,host=::1,port=http: port must be a number from 1 to 65535",
        ),
        (
            "-chardev socket,id=c,host=example.org,port=1",
            "-chardev socket,id=c,host=example.org,port=1: "
            "host must be an IP address, such as 127.0.0.1 or ::1",
        ),
        (
            "-chardev socket,id=c,path=/tmp/s,nowait",
            "-chardev socket,id=c,path=/tmp/s,nowait: wait and nowait need server",
        ),
        (
            "-chardev stdio,id=a -chardev stdio,id=b",
            "-chardev stdio: a and b cannot share stdin and stdout",
        ),
        (
            "-serial stdio -chardev stdio,id=b",
            "-chardev stdio: b and serial0 cannot share stdin and stdout",
        ),
        ("-serial stdio -daemonize", "-daemonize: chardev serial0 needs stdin and stdout"),
        ("-drive id=d", "-drive id=d: file=FILE is missing"),
        ("-drive file=f", "-drive file=f: id=ID is missing"),
        (
            "-drive file=f,id=d,readonly=maybe",
            "-drive file=f,id=d,readonly=maybe: readonly must be on or off",
        ),
        ("-drive file=f,id=d,format=vmdk", "-drive file=f,id=d,format=vmdk: format must be raw or qcow2"),
        ("-drive file=f,id=d,if=virtio", "-drive file=f,id=d,if=virtio: if must be none or pflash"),
        (
            "-drive file=f,id=d,aio=fast",
            "-drive file=f,id=d,aio=fast: aio must be off, threads, native or io_uring",
        ),
        (
            "-drive file=f,id=d,discard=yes",
            "-drive file=f,id=d,discard=yes: discard must be unmap or ignore",
        ),
        (
            "-drive file=f,id=d,throttling.iops-total=1000001",
            "-drive file=f,id=d,throttling.iops-total=1000001: "
            "throttling.iops-total must be a number from 0 to 1000000",
        ),
        ("-drive file=f,id=d -drive file=g,id=d", "-drive id=d: another -drive has this id"),
        ("-netdev bridge,id=n", "-netdev bridge,id=n: no type 'bridge'; use user, tap or vhost-user"),
        ("-netdev tap,id=n", "-netdev tap,id=n: needs one of ifname=, fd= and fds="),
        (
            "-netdev tap,id=n,ifname=a/b",
            "-netdev tap,id=n,ifname=a/b: ifname must be an interface name of 1 to 15 bytes",
        ),
        (
            "-netdev tap,id=n,ifname=0123456789abcdef",
            "-netdev tap,id=n,ifname=0123456789abcdef: ifname must be an interface name of 1 to 15 bytes",
        ),
        (
            "-netdev tap,id=n,ifname=t,fd=3",
            "-netdev tap,id=n,ifname=t,fd=3: needs one of ifname=, fd= and fds=",
        ),
        ("-netdev tap,id=n,fds=3:x", "-netdev tap,id=n,fds=3:x: fds must be a number from 0 to 1048576"),
        *(
            (
                f"-netdev user,id=n,hostfwd={forward}",
                f"-netdev user,id=n,hostfwd={forward}: hostfwd must be tcp:[IP]:PORT-:PORT or "
                "udp:[IP]:PORT-:PORT, the host's and then the guest's port",
            )
            for forward in ("tcp::22", "icmp::1-:1", "tcp::0-:22", "tcp:host:22-:22", "tcp::22-10.0.2.15:22")
        ),
        (
            "-netdev tap,id=n,fds=3:4,queues=3",
            "-netdev tap,id=n,fds=3:4,queues=3: queues=3 needs as many fds, not 2",
        ),
        (
            "-netdev tap,id=n,fd=3,vhostfd=4,vhostfds=5",
            "-netdev tap,id=n,fd=3,vhostfd=4,vhostfds=5: vhostfd and vhostfds: give one",
        ),
        (
            "-netdev tap,id=n,fd=3,vhost=off,vhostfd=4",
            "-netdev tap,id=n,fd=3,vhost=off,vhostfd=4: vhost=off allows no vhostfd",
        ),
        (
            "-netdev tap,id=n,fd=3,vhostfds=4:5",
            "-netdev tap,id=n,fd=3,vhostfds=4:5: 1 queues need as many vhostfds, not 2",
        ),
        (
            "-netdev vhost-user,id=n,chardev=c",
            "-netdev vhost-user,chardev=c: no -chardev has this id; none is defined",
        ),
        (
            "-device virtio-block-device,drive=d",
            "-device virtio-block-device,drive=d: "
            "no driver 'virtio-block-device'; did you mean virtio-blk-device?",
        ),
        ("-device virtio-blk-device", "-device virtio-blk-device: drive=ID is missing"),
        (
            "-device virtio-blk-device,drive=d",
            "-device virtio-blk-device,drive=d: no -drive has this id; none is defined",
        ),
        (
            "-device virtio-net-device,netdev=n",
            "-device virtio-net-device,netdev=n: no -netdev has this id; none is defined",
        ),
        (
            "-device virtio-rng-device,rng=r",
            "-device virtio-rng-device,rng=r: no -object rng-random has this id; none is defined",
        ),
        (
            "-device virtio-net-device,netdev=n,mac=52:54:00",
            "-device virtio-net-device,netdev=n,mac=52:54:00: "
            "mac must be six octets, such as 52:54:00:12:34:56",
        ),
        (
            "-device virtio-net-device,netdev=n,mac=01:00:00:00:00:00",
            "-device virtio-net-device,netdev=n,mac=01:00:00:00:00:00: "
            "mac must not be a multicast address: make the first octet even",
        ),
        (
            "-device vhost-vsock-device,guest-cid=2",
            "-device vhost-vsock-device,guest-cid=2: guest-cid must be a number from 3 to 4294967294",
        ),
        (
            "-device virtio-vsock-device,guest-cid=3",
            "-device virtio-vsock-device,guest-cid=3: uds-path=PATH is missing",
        ),
        (
            "-device virtio-balloon-device,id=b -device virtio-serial-device,id=b",
            "-device id=b: another -device has this id",
        ),
        (
            "-object rng-egd,id=r",
            "-object rng-egd,id=r: "
            "no qom-type 'rng-egd'; use rng-random, iothread, memory-backend-ram, memory-backend-file "
            "or memory-backend-memfd",
        ),
        ("-object iothread", "-object iothread: id=ID is missing"),
        ("-object rng-random", "-object rng-random: id=ID is missing"),
        (
            "-machine memory-backend=n -object memory-backend-ram,id=m,size=1G",
            "-machine memory-backend=n: no -object memory-backend-* has this id; use m",
        ),
        (
            "-machine memory-backend=m -object memory-backend-ram,id=m,size=1G",
            "-machine memory-backend=m: it has 1073741824 bytes, -m has 268435456",
        ),
        (
            "-machine memory-backend=m -mem-path ram -object memory-backend-ram,id=m,size=256M",
            "-machine memory-backend=m: leave out -mem-path; the object says what RAM stands on",
        ),
        ("-object iothread,id=a -object iothread,id=a", "-object id=a: another -object has this id"),
        (
            "-serial chardev",
            "-serial chardev: must be stdio, pty, file, null, ringbuf, socket, chardev:ID, mon:stdio or none",
        ),
        ("-machine q35,accel=kvm,,tcg", "-machine q35,accel=kvm,,tcg: accel must be kvm, tcg or kvm:tcg"),
        (
            "-device virtio-blk-device,drive=d,iothread=io -drive file=f,id=d",
            "-device virtio-blk-device,iothread=io: no -object iothread has this id; none is defined",
        ),
        (
            "-drive file=f,id=d -device virtio-blk-device,id=a,drive=d -device virtio-blk-device,drive=d",
            "-device virtio-blk-device,drive=d: device a uses it already",
        ),
        ("-append quiet -kernal x", "-kernal: unknown option; did you mean -kernel?"),
        ("-drive file=f,file=g,id=d", "-drive file=f,file=g,id=d: file is given twice"),
        ("-qmp server,nowait", "-qmp server,nowait: address must be unix:PATH or tcp:IP:PORT"),
    ],
)
def test_a_mistake_is_named_in_one_line(text: str, line: str) -> None:
    assert refusal(text) == line


@pytest.mark.parametrize("option", ["-qmp unix:{},server,nowait", "-chardev socket,id=c,path={}"])
def test_a_socket_path_must_fit_its_kernel_structure(option: str) -> None:
    fits = "/" + "é" * (MAX_SOCKET_PATH // 2)  # two bytes each
    assert config(option.format(fits)).kernel == "vmlinux"
    assert refusal(option.format(fits + "x")).endswith("must be a path of at most 107 bytes, not 108")


def test_a_vsock_path_leaves_room_for_the_number_of_a_port() -> None:
    option = "-device virtio-vsock-device,guest-cid=3,uds-path=/{}"
    assert MAX_SOCKET_PATH - len("/_4294967294") == 95
    assert config(option.format("x" * 95)).devices
    assert refusal(option.format("x" * 96)).endswith("must be a path of at most 96 bytes, not 97")


def test_a_microvm_needs_a_kernel() -> None:
    with pytest.raises(
        OptionError, match=r"^-kernel: missing; the microvm machine boots a kernel: -kernel FILE$"
    ):
        parse([])


@pytest.mark.parametrize("option", ["-initrd", "-append"])
def test_what_goes_with_a_kernel_needs_one(option: str) -> None:
    with pytest.raises(OptionError, match=f"^{option}: needs -kernel$"):
        parse(["-machine", "q35", option, "x"])


def test_an_error_stays_on_one_line_whatever_was_typed() -> None:
    with pytest.raises(OptionError, match=r"^-m 1\\n2\\x1b\\udcff: size must be a number") as caught:
        parse(["-m", "1\n2\x1b\udcff"])
    assert str(caught.value).isprintable()


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(OptionError) as caught:
        parse(["-machine", "x" * 100_000])
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_a_word_that_no_kernel_hands_over_is_refused(word: str) -> None:
    with pytest.raises(OptionError):
        parse(["-append", word])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("-machine q35", "-machine q35: not built yet: take microvm"),
        (
            "-drive if=pflash,file=flash.img",
            "-drive if=pflash: not built yet: there is no firmware; a microvm boots its -kernel",
        ),
        (
            "-netdev vhost-user,id=n,chardev=c -chardev null,id=c",
            "-netdev vhost-user,id=n: not built yet: take tap, or user",
        ),
        (
            "-device vfio-pci,host=0000:00:01.0",
            "-device vfio-pci: not built yet: the microvm has no PCI bus",
        ),
        (
            "-device vhost-vsock-device,guest-cid=3",
            "-device vhost-vsock-device: not built yet: "
            "take virtio-vsock-device,guest-cid=N,uds-path=PATH, which needs no /dev/vhost-vsock",
        ),
        (
            "-device virtio-serial-pci",
            "-device virtio-serial-pci: not built yet: the microvm has no PCI bus; take virtio-serial-device",
        ),
    ],
)
def test_what_comes_later_is_parsed_and_then_refused_by_name(text: str, line: str) -> None:
    parsed = config(text)
    with pytest.raises(OptionError) as caught:
        refuse_not_built(parsed)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-machine none",
        "-cpu host",
        "-smp 4 -m 6G -S -no-reboot -no-shutdown -name vm -D -pidfile p -sandbox on",
        "-qmp tcp:127.0.0.1:4444,server,nowait -mon c,mode=control -chardev socket,id=c,host=::1,port=9",
        "-serial file,path=vm.log",
        "-drive id=d,file=disk.img -device virtio-blk-device,drive=d,serial=x,num-queues=2",
    ],
)
def test_what_is_built_is_not_refused(text: str) -> None:
    parsed = config(text)
    refuse_not_built(parsed)
    assert parsed.kernel == "vmlinux"
