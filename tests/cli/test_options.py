"""Every option, in each of its forms, gives the value that it stands for."""

import shlex

import pytest

from stratovirt.cli import Config, EarlyExit, parse, with_terminal
from stratovirt.cli.config import (
    GIB,
    MIB,
    Cpu,
    Device,
    Drive,
    FileChardev,
    HostForward,
    Incoming,
    Machine,
    Mon,
    NullChardev,
    Object,
    PtyChardev,
    QmpMonitor,
    RingbufChardev,
    Serial,
    Smp,
    SocketChardev,
    StdioChardev,
    TapNetdev,
    TcpAddress,
    UnixAddress,
    UserNetdev,
    VhostUserNetdev,
)
from tests.cli.commands import config

UUID = "c6b3e2a0-7f1d-4c60-9c7e-0123456789ab"


def test_nothing_but_a_kernel_gives_the_defaults() -> None:
    assert config() == Config(kernel="vmlinux")
    assert config().memory == 256 * MIB
    assert config().machine.accel == "kvm:tcg"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("-machine microvm", "machine", Machine()),
        ("-machine type=microvm", "machine", Machine()),
        ("-machine q35,acpi=on", "machine", Machine("q35", acpi="on")),
        ("-machine none,accel=kvm:tcg", "machine", Machine("none")),
        ("-machine accel=tcg", "machine", Machine(accel="tcg")),
        ("-machine microvm,accel=kvm", "machine", Machine(accel="kvm")),
        ("-machine microvm,dump-guest-core=off", "machine", Machine(dump_guest_core=False)),
        ("-machine microvm,mem-share=on", "machine", Machine(mem_share=True)),
        ("-machine microvm,mem-share", "machine", Machine(mem_share=True)),
        (
            "-machine memory-backend=m -object memory-backend-ram,id=m,size=256M",
            "machine",
            Machine(memory_backend="m"),
        ),
        ("-machine microvm,acpi=off,usb=off", "machine", Machine(acpi="off")),
        ("-accel kvm", "machine", Machine(accel="kvm")),
        ("-accel tcg", "machine", Machine(accel="tcg")),
        ("-accel kvm:tcg", "machine", Machine(accel="kvm:tcg")),
        ("-accel tcg -machine microvm,accel=tcg", "machine", Machine(accel="tcg")),
        ("-cpu host", "cpu", Cpu()),
        ("-cpu host,-avx512f,+aes,-sse4.1", "cpu", Cpu("host", ("aes",), ("avx512f", "sse4.1"))),
        ("-smp 1", "smp", Smp()),
        ("-smp 4", "smp", Smp(4, 4, cores=4)),
        ("-smp cpus=254", "smp", Smp(254, 254, cores=254)),
        ("-smp 2,maxcpus=8", "smp", Smp(2, 8, cores=8)),
        ("-smp 8,sockets=2,threads=2", "smp", Smp(8, 8, sockets=2, cores=2, threads=2)),
        ("-smp 8,cores=2", "smp", Smp(8, 8, sockets=4, cores=2)),
        ("-smp 8,sockets=2,cores=2", "smp", Smp(8, 8, sockets=2, cores=2, threads=2)),
        ("-smp 1,cores=1,threads=1,sockets=4,maxcpus=4", "smp", Smp(1, 4, sockets=4)),
        ("-smp 16,dies=2,clusters=2", "smp", Smp(16, 16, dies=2, clusters=2, cores=4)),
        ("-m 512", "memory", 512 * MIB),
        ("-m size=512", "memory", 512 * MIB),
        ("-m 128M", "memory", 128 * MIB),
        ("-m 6G", "memory", 6 * GIB),
        ("-m 2g", "memory", 2 * GIB),
        ("-m 512G", "memory", 512 * GIB),
        ("-m 262144K", "memory", 256 * MIB),
        ("-mem-path /dev/hugepages", "mem_path", "/dev/hugepages"),
        ("-mem-prealloc", "mem_prealloc", True),
        ("-initrd initrd.img", "initrd", "initrd.img"),
        ("-append 'console=ttyS0 quiet'", "append", "console=ttyS0 quiet"),
        ("-append console=ttyS0 panic=-1 -- a,,b", "append", "console=ttyS0 panic=-1 -- a,,b"),
        ("-append ''", "append", ""),
        ("-name guest=vm1", "name", "vm1"),
        ("-name 'a vm,, with = and comma'", "name", "a vm, with = and comma"),
        (f"-uuid {UUID.upper()}", "uuid", UUID),
        ("-D", "log_file", None),
        ("-D vm.log", "log_file", "vm.log"),
        ("-pidfile vm.pid", "pidfile", "vm.pid"),
        ("-daemonize", "daemonize", True),
        ("-S", "freeze", True),
        ("-freeze", "freeze", True),
        ("--freeze", "freeze", True),
        ("-no-shutdown", "no_shutdown", True),
        ("-no-reboot", "no_reboot", True),
        ("-disable-seccomp", "disable_seccomp", True),
        ("-incoming file:/var/template", "incoming", Incoming("/var/template")),
        ("-incoming file:a,,b,mapped=off", "incoming", Incoming("a,b", mapped=False)),
    ],
)
def test_an_option_of_the_machine(text: str, field: str, value: object) -> None:
    assert getattr(config(text), field) == value


@pytest.mark.parametrize(
    ("text", "chardev"),
    [
        ("stdio,id=c", StdioChardev("c")),
        ("backend=pty,id=c", PtyChardev("c")),
        ("file,id=c,path=/tmp/a,,b", FileChardev("c", "/tmp/a,b")),
        ("null,id=c", NullChardev("c")),
        ("ringbuf,id=c", RingbufChardev("c", 65536)),
        ("ringbuf,id=c,size=4096", RingbufChardev("c", 4096)),
        ("ringbuf,id=c,size=1M", RingbufChardev("c", MIB)),
        ("socket,id=c,path=/tmp/s", SocketChardev("c", UnixAddress("/tmp/s"))),
        ("socket,path=/tmp/s,id=c,server,nowait", SocketChardev("c", UnixAddress("/tmp/s"), server=True)),
        (
            "socket,id=c,path=/tmp/s,server=on,wait=off",
            SocketChardev("c", UnixAddress("/tmp/s"), server=True),
        ),
        ("socket,id=c,path=/tmp/s,server", SocketChardev("c", UnixAddress("/tmp/s"), server=True, wait=True)),
        (
            "socket,id=c,path=/tmp/s,server,nowait=off",
            SocketChardev("c", UnixAddress("/tmp/s"), server=True, wait=True),
        ),
        (
            "socket,id=c,host=127.0.0.1,port=4444,server,nowait",
            SocketChardev("c", TcpAddress("127.0.0.1", 4444), server=True),
        ),
        ("socket,id=c,host=::1,port=1", SocketChardev("c", TcpAddress("::1", 1))),
    ],
)
def test_a_chardev(text: str, chardev: object) -> None:
    (parsed,) = config(f"-chardev {text}").chardevs
    assert (type(parsed), parsed) == (type(chardev), chardev)


@pytest.mark.parametrize(
    ("text", "monitor"),
    [
        ("unix:/tmp/s,server,nowait", QmpMonitor(UnixAddress("/tmp/s"), wait=False)),
        ("unix:/tmp/a=b,,c,server,nowait", QmpMonitor(UnixAddress("/tmp/a=b,c"), wait=False)),
        ("unix:/tmp/s,server=on,wait=off", QmpMonitor(UnixAddress("/tmp/s"), wait=False)),
        ("unix:/tmp/s,server", QmpMonitor(UnixAddress("/tmp/s"), wait=True)),
        ("unix:/tmp/s,server,nowait,throttle=reject", QmpMonitor(UnixAddress("/tmp/s"), False, "reject")),
        ("unix:/tmp/s,server,nowait,throttle=delay", QmpMonitor(UnixAddress("/tmp/s"), False, "delay")),
        ("tcp:127.0.0.1:4444,server,nowait", QmpMonitor(TcpAddress("127.0.0.1", 4444), wait=False)),
        ("tcp:[::1]:65535,server,nowait", QmpMonitor(TcpAddress("::1", 65535), wait=False)),
    ],
)
def test_a_qmp_listener(text: str, monitor: QmpMonitor) -> None:
    assert config(f"-qmp {text}").qmp == (monitor,)


def test_qmp_listeners_add_up() -> None:
    parsed = config("-qmp unix:/tmp/a,server,nowait -qmp unix:/tmp/b,server,nowait")
    assert [monitor.address for monitor in parsed.qmp] == [UnixAddress("/tmp/a"), UnixAddress("/tmp/b")]


def test_monitors_stand_on_chardevs_that_may_come_later() -> None:
    parsed = config(
        "-mon chardev=a,mode=control,id=m -mon b,mode=readline -chardev null,id=a -chardev null,id=b"
    )
    assert parsed.mons == (Mon("a", "control", "m"), Mon("b", "readline"))


@pytest.mark.parametrize(
    ("text", "serial", "backends"),
    [
        ("stdio", Serial("serial0"), (StdioChardev("serial0"),)),
        ("pty", Serial("serial0"), (PtyChardev("serial0"),)),
        ("null", Serial("serial0"), (NullChardev("serial0"),)),
        ("file,path=vm.log,,", Serial("serial0"), (FileChardev("serial0", "vm.log,"),)),
        ("ringbuf,size=1K", Serial("serial0"), (RingbufChardev("serial0", 1024),)),
        (
            "socket,path=/tmp/s,server,nowait",
            Serial("serial0"),
            (SocketChardev("serial0", UnixAddress("/tmp/s"), server=True),),
        ),
        ("mon:stdio", Serial("serial0", monitor=True), (StdioChardev("serial0"),)),
        ("none", Serial(None), ()),
    ],
)
def test_a_serial_port_with_its_backend_in_place(
    text: str, serial: Serial, backends: tuple[object, ...]
) -> None:
    parsed = config(f"-serial {text}")
    assert parsed.serial == serial
    assert parsed.chardevs == backends
    assert [type(chardev) for chardev in parsed.chardevs] == [type(backend) for backend in backends]


def test_a_serial_port_on_a_chardev() -> None:
    parsed = config("-serial chardev:con -chardev pty,id=con")
    assert parsed.serial == Serial("con")
    assert parsed.chardevs == (PtyChardev("con"),)


@pytest.mark.parametrize(
    ("text", "drive"),
    [
        ("id=d,file=disk.img", Drive("disk.img", "d")),
        ("file=a,,b,id=d,readonly=on", Drive("a,b", "d", readonly=True)),
        ("id=d,file=f,readonly", Drive("f", "d", readonly=True)),
        ("id=d,file=f,direct=off,format=qcow2,if=none", Drive("f", "d", direct=False, format="qcow2")),
        ("id=d,file=f,throttling.iops-total=1000", Drive("f", "d", iops_total=1000)),
        ("id=d,file=f,aio=io_uring,direct=on", Drive("f", "d", aio="io_uring", direct=True)),
        (
            "id=d,file=f,discard=unmap,detect-zeroes=unmap",
            Drive("f", "d", discard=True, detect_zeroes="unmap"),
        ),
        ("id=d,file=f,discard=ignore", Drive("f", "d")),
        ("file=OVMF.fd,if=pflash,readonly=true", Drive("OVMF.fd", interface="pflash", readonly=True)),
    ],
)
def test_a_drive(text: str, drive: Drive) -> None:
    assert config(f"-drive {text}").drives == (drive,)


@pytest.mark.parametrize(
    ("text", "netdev"),
    [
        ("user,id=n", UserNetdev("n")),
        (
            "user,id=n,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::53-:5353,hostfwd=:[::1]:80-:8080",
            UserNetdev(
                "n",
                (
                    HostForward("tcp", "127.0.0.1", 2222, 22),
                    HostForward("udp", "", 53, 5353),
                    HostForward("tcp", "::1", 80, 8080),
                ),
            ),
        ),
        ("type=tap,id=n,ifname=tap0", TapNetdev("n", "tap0")),
        ("tap,id=n,ifname=tap0,queues=4", TapNetdev("n", "tap0", queues=4)),
        ("tap,id=n,fd=7", TapNetdev("n", fds=(7,))),
        ("tap,id=n,fd=7,vhost=on,vhostfd=8", TapNetdev("n", fds=(7,), vhost=True, vhostfds=(8,))),
        ("tap,id=n,fds=7:8,vhost=on", TapNetdev("n", fds=(7, 8), vhost=True, queues=2)),
        (
            "tap,id=n,fds=7:8,vhostfds=9:10,queues=2",
            TapNetdev("n", fds=(7, 8), vhost=True, vhostfds=(9, 10), queues=2),
        ),
        ("vhost-user,id=n,chardev=c", VhostUserNetdev("n", "c")),
    ],
)
def test_a_netdev(text: str, netdev: object) -> None:
    (parsed,) = config(f"-netdev {text} -chardev null,id=c").netdevs
    assert (type(parsed), parsed) == (type(netdev), netdev)


BACKENDS = (
    "-drive id=d,file=f -netdev user,id=n -chardev null,id=c -object rng-random,id=r,filename=/dev/urandom "
    "-object iothread,id=io"
)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("virtio-blk-device,drive=d", Device("virtio-blk-device", "#device0", (("drive", "d"),))),
        (
            "driver=virtio-blk-device,id=b,drive=d,serial=s1,iothread=io,num-queues=2",
            Device(
                "virtio-blk-device",
                "b",
                (("drive", "d"), ("serial", "s1"), ("iothread", "io"), ("num-queues", 2)),
            ),
        ),
        (
            "virtio-net-device,id=n,netdev=n,mac=52:54:00:AB:CD:EF",
            Device("virtio-net-device", "n", (("netdev", "n"), ("mac", "52:54:00:ab:cd:ef"))),
        ),
        ("virtio-serial-device,id=s", Device("virtio-serial-device", "s")),
        ("virtconsole,id=v,chardev=c", Device("virtconsole", "v", (("chardev", "c"),))),
        (
            "virtio-balloon-device,id=b,deflate-on-oom=on,free-page-reporting",
            Device("virtio-balloon-device", "b", (("deflate-on-oom", True), ("free-page-reporting", True))),
        ),
        (
            "virtio-rng-device,id=g,rng=r,max-bytes=1024,period=1000",
            Device("virtio-rng-device", "g", (("rng", "r"), ("max-bytes", 1024), ("period", 1000))),
        ),
        (
            "virtio-vsock-device,id=v,guest-cid=3,uds-path=/run/v.sock",
            Device("virtio-vsock-device", "v", (("guest-cid", 3), ("uds-path", "/run/v.sock"))),
        ),
        (
            "vhost-vsock-device,id=v,guest-cid=3,vhostfd=9",
            Device("vhost-vsock-device", "v", (("guest-cid", 3), ("vhostfd", 9))),
        ),
        (
            "vhost-user-fs-device,id=f,chardev=c,tag=share",
            Device("vhost-user-fs-device", "f", (("chardev", "c"), ("tag", "share"))),
        ),
        (
            "virtio-blk-pci,id=b,drive=d,bus=pcie.0,addr=0x1.0x0",
            Device("virtio-blk-pci", "b", (("drive", "d"), ("bus", "pcie.0"), ("addr", "0x1.0x0"))),
        ),
        (
            "pcie-root-port,id=p,port=0x0,bus=pcie.0,addr=0x2",
            Device("pcie-root-port", "p", (("port", "0x0"), ("bus", "pcie.0"), ("addr", "0x2"))),
        ),
        ("vfio-pci,id=v,host=0000:1a:00.3", Device("vfio-pci", "v", (("host", "0000:1a:00.3"),))),
    ],
)
def test_a_device(text: str, device: Device) -> None:
    assert config(f"{BACKENDS} -device {text}").devices == (device,)


def test_devices_without_an_id_get_one_each() -> None:
    parsed = config(
        "-device virtio-serial-device -device virtio-balloon-device,id=b -device virtio-balloon-device"
    )
    assert [device.id for device in parsed.devices] == ["#device0", "b", "#device2"]


def test_a_device_tells_its_properties_by_name() -> None:
    (device,) = config("-device virtio-balloon-device,deflate-on-oom=off").devices
    assert device.get("deflate-on-oom") is False
    assert device.get("free-page-reporting") is None


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("rng-random,id=r,filename=/dev/urandom", Object("rng-random", "r", (("filename", "/dev/urandom"),))),
        ("qom-type=iothread,id=io", Object("iothread", "io")),
        ("memory-backend-ram,id=m,size=1G", Object("memory-backend-ram", "m", (("size", GIB),))),
        (
            "memory-backend-file,id=m,size=256M,mem-path=/dev/shm/a,share=on",
            Object(
                "memory-backend-file", "m", (("size", 256 * MIB), ("mem-path", "/dev/shm/a"), ("share", True))
            ),
        ),
        (
            "memory-backend-memfd,id=m,size=4096,prealloc=on,host-nodes=0,policy=bind",
            Object(
                "memory-backend-memfd",
                "m",
                (("size", 4096), ("prealloc", True), ("host-nodes", "0"), ("policy", "bind")),
            ),
        ),
    ],
)
def test_an_object(text: str, thing: Object) -> None:
    assert config(f"-object {text}").objects == (thing,)


@pytest.mark.parametrize(
    "text",
    [
        "-nodefaults",
        "-no-user-config",
        "-nographic",
        "-overcommit mem-lock=off",
        "-sandbox on,obsolete=deny",
        "-msg timestamp=on",
        "-rtc base=utc",
        "-boot order=c",
        "-realtime mlock=off",
        "-display none",
        "-usb",
        "-global virtio-mmio.force-legacy=off",
    ],
)
def test_an_ignored_option_is_kept_as_typed_for_its_warning(text: str) -> None:
    assert config(text) == Config(kernel="vmlinux", ignored=(text,))


@pytest.mark.parametrize("text", ["-h", "-help", "--help", "-smp 2 -h -no-such-option"])
def test_help_ends_the_reading(text: str) -> None:
    assert parse(shlex.split(text)) is EarlyExit.HELP


@pytest.mark.parametrize("text", ["-V", "-version", "--version"])
def test_version_ends_the_reading(text: str) -> None:
    assert parse([text]) is EarlyExit.VERSION


def test_a_device_may_be_called_like_its_backend() -> None:
    parsed = config("-netdev tap,id=net0,ifname=tap0 -device virtio-net-device,netdev=net0,id=net0")
    assert parsed.netdevs[0].id == parsed.devices[0].id


def test_the_probe_of_libvirt_is_understood() -> None:
    parsed = parse(
        shlex.split(
            "-S -no-user-config -nodefaults -nographic -machine none,accel=kvm:tcg "
            "-qmp unix:/tmp/m,server=on,wait=off -pidfile /tmp/p -daemonize"
        )
    )
    assert isinstance(parsed, Config)
    assert (parsed.machine.type, parsed.freeze, parsed.daemonize) == ("none", True, True)


@pytest.mark.parametrize("text", ["-machine q35", "-machine none", "-incoming file:template"])
def test_what_boots_no_kernel_needs_none(text: str) -> None:
    parsed = parse(shlex.split(text))
    assert isinstance(parsed, Config)
    assert parsed.kernel is None


def test_a_terminal_becomes_the_serial_port_and_the_console() -> None:
    parsed = with_terminal(config())
    assert parsed.serial == Serial("serial0")
    assert parsed.chardevs == (StdioChardev("serial0"),)
    assert parsed.append == "console=ttyS0"


def test_a_terminal_leaves_a_given_command_line_alone() -> None:
    assert with_terminal(config("-append quiet")).append == "quiet"


@pytest.mark.parametrize(
    "text",
    [
        "-serial none",
        "-serial pty",
        "-daemonize",
        "-machine none",
        "-chardev stdio,id=c -mon c,mode=control",
        "-chardev null,id=serial0",
    ],
)
def test_a_terminal_that_is_not_free_stays_as_it_is(text: str) -> None:
    assert with_terminal(config(text)) == config(text)
