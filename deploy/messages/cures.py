"""What to do about messages that do not say it themselves, or not enough. The keys are Message.text."""

RAS_ADDRESS = "Give the address of NCCL's RAS service, NCCL_RAS_ADDR of the job, by default localhost:28028."
REPORT_IT = "A fault of this program: please report it, with what `--debug` shows."
REINSTALL = "Reinstall the package; if that does not help, report it."

CURES = {
    # the command line
    "XTRACE_FEATURES_OFF: unknown feature …": "Unset the variable: it is for tests, and to switch off `landlock`.",
    "unknown option … (…)": "The message names what is similar; `--help-all` lists all options.",
    "… needs a value (…)": "Give the value that the message describes.",
    "… takes no value": "Leave out what follows `=`.",
    "…: not a valid URL …": "Write `http://host:8428`, with a path if it is another than VictoriaMetrics' import.",
    "…: not an http or https URL …": "Begin it with `http://` or `https://`.",
    "…: what follows # is not sent to any server; in a name or password write %23 …": "Leave it out, or encode it.",
    "…: … does not take --push-format … …": "Leave out `--push-format`, or give the path that takes it.",
    "…: … needs one value, once": "Correct the line of the file that the message names.",
    "…: …, …, is not supported …": "Push to the import of VictoriaMetrics or to a path for remote write.",
    "--listen-config …: basic_auth_users: … has no bcrypt hash (htpasswd -nBC 10 …)": (
        "Take the hash that `htpasswd -nBC 10 NAME` prints."
    ),
    "--listen-config …: has no tls_server_config or basic_auth_users (or leave out --listen-config)": (
        "Write one of them into the file, or leave out `--listen-config`."
    ),
    "--listen-config …: …: unknown value '…' (available: …)": "Choose one of those that are listed.",
    "…: unknown … '…' (available: …)": "Choose one of those that are listed.",
    # privileges
    "… needs …: run it with sudo, or grant these capabilities": "[security.md](security.md#privileges) shows how.",
    # interfaces
    "could not attach to any interface; -l lists them": "The lines before say why for each; choose others with `-i`.",
    "interface … not found (available: …); …": "Choose one of those with `-i`; in a container add `--network host`.",
    "…: XDP program id … is already attached (…) and is not replaced: …": (
        "Use `--hook tc`, which leaves XDP to it. `bpftool prog show id N` shows whose it is."
    ),
    "…: … XDP refused: …": (
        "The kernel's reason follows. Use `--hook tc` or `--xdp-mode generic`; without either option tc is taken by"
        " itself."
    ),
    "…: an XDP program stays attached: …: …": "`ip link set dev NAME xdp off` removes it.",
    "…: frames of link type … are not supported; choose another interface": "Ethernet and raw IP can be monitored.",
    "…: tc … refused: …": "`tc filter show dev NAME ingress` shows who is there; `--debug` shows more.",
    "…: the interface disappeared while attaching": "Start it again; an interface that was named is awaited.",
    "…; before that, …": "Both ways to attach failed: each reason is in the message.",
    # RDMA
    "RDMA device … has no network interface (choose one with -i)": "InfiniBand without IPoIB has none: use `-m rdma`.",
    "RDMA device … not found (available: …)": "Choose one with `-d`; `-l -m rdma` lists them with their ports.",
    "no RDMA devices": "Load the driver; in a container mount the host's /sys at /host/sys.",
    "no RDMA device found (ls /sys/class/infiniband lists those with a loaded driver)…": (
        "Load the driver; in a container mount the host's /sys at /host/sys."
    ),
    "no RDMA port has interface … (available: …)": "Choose one of those listed with `-i`, or select ports with `-d`.",
    # RAS
    "answer is longer than 33554432 bytes": RAS_ADDRESS,
    "answered without a line end: not NCCL's RAS service": RAS_ADDRESS,
    "answered …: not NCCL's RAS service": RAS_ADDRESS,
    "cannot parse the answer: …: …": "Another version of NCCL: please report it with the version.",
    "closed the connection before the end of a line": "The job ended, or it is another service: the next query shows.",
    "no JSON support: NCCL 2.28.7 or newer is needed": "Use a newer NCCL in the job, or leave out `--ras`.",
    "no complete answer within … s": "Ranks that hang answer late: `xtrace-catch hang` names them without RAS.",
    # others
    "BPF_PROG_LOAD(nothing): …": "The kernel refuses even an empty program: see its log, and `--doctor`.",
    "…: in no file that this process has mapped": REPORT_IT,
    "/sys/devices/system/cpu/possible …": "Mount /sys: the number of CPUs is read there.",
    "mode nccl: process IDs in this container's /proc differ from the kernel's, so calls cannot be assigned to"
    " processes (run it with --pid host or -v /proc:/host/proc:ro)": "Do that; `make docker-up-nccl` does.",
    "tcp-packets: … frames were not counted: the packet program could not be called": REPORT_IT,
    "needs compare-and-swap in BPF (Linux 5.12)": "Said with `--owners`: flows are counted, but have no owners; a newer"
    " kernel has them.",
    "report: …: no records of xtrace-catch (give its JSON Lines, -o json)": "Record with `-o json`, or in a pipe.",
    "report: …: … (choose another file with -o)": "Name a file that can be written.",
    "standard output: …": "The disk is full, or the reader failed: the reason follows.",
    "stopped after … lines; no report was written": "A signal ended it: start it again.",
    "stopped before monitoring began": "A signal ended it before all interfaces were attached; nothing stays attached.",
    "…/type: …: this kernel has no uprobes (CONFIG_UPROBE_EVENTS)": "Use a kernel that has them, as distributions' do.",
    "…: struct … has no … of … bytes": "This kernel's BTF is unusual: `--tcp` goes without ends of sockets.",
    "…: …: … (give a file of JSON Lines, or - for stdin)": "Give a file that exists and can be read.",
    # while it runs
    "--spool …: has samples for other servers or labels, left alone: …": (
        "Start it once with the old target and labels, or remove the directories that the message names."
    ),
    "--spool …: …; it stays there for a later run": (
        "Correct its owner or mode (`chown -R`), or the disk: the next run with this spool delivers it."
    ),
    "--spool …: …; samples are kept in memory only": "Make room, or allow writing; then start it again.",
    "NCCL calls do not add up: … missing": REPORT_IT,
    "RAS service …: cannot parse … communicators": "Another version of NCCL: please report it with the version.",
    "hang: …": "Lines of a file are left out, the message says why; the verdict is from the rest.",
    "ipfix to …: ended; not sent: … flows, … packets": "The reason was given before. Start the collector first.",
    "…: more than … MiB queued; dropping the oldest flows": "Start the collector, or use `--filter` and `--net`.",
    "…: …; flows are queued, retrying": "Start the collector, or correct its address.",
    "listen: connections that are too many, too slow or malformed are refused, and counted": (
        "Find who connects: `xtrace_catch_listen_refused_total` counts them."
    ),
    "listen: internal error: …; --debug shows where": REPORT_IT,
    "privileges are kept: …": "A container's seccomp filter may forbid it: the run goes on with all its privileges.",
    "push to …: a damaged file in the spool is dropped: …": "The disk, or a power failure: its samples are lost.",
    "push to …: a file in the spool was removed by others: …": "Its samples are lost: leave the files to the tool.",
    "push to …: accepted, but for … samples: …": (
        "The server's text follows; see [OpenTelemetry](fleet.md#opentelemetry)."
    ),
    "push to …: accepted, with a remark: …": "Nothing: the server's text follows.",
    "push to …: answered …: samples may not be stored (check the path)": (
        "The path of VictoriaMetrics is `/api/v1/import/prometheus`."
    ),
    "push to …: ended; lost: … samples of … intervals: …": "The reason follows. `--spool` keeps more than memory does.",
    "push to …: ended; not delivered within … s: … samples": "Use `--spool`: a later run delivers what it has.",
    "push to …: ended; not delivered yet: … samples, kept in …": "Nothing: the next run with this spool delivers them.",
    "push to …: ended before the server returned a sample: it may store nothing that comes by this path (check the"
    " path)": "The path is none of those that are known to store. Compare what the server has, or let it run for 10 s.",
    "push to …: ended before the server showed whether it still has … intervals that it had acknowledged": (
        "Nothing, unless it was killed just before: those intervals may be lost. Use `--spool`: the next run finds out."
    ),
    "push to …: ended; the server accepted samples but seems not to store them": (
        "See the server's log and its limits on series."
    ),
    "…; what was read before stays in use": (
        "Correct the files, the message says what is wrong with them: they are read again once they have changed, and"
        " at `systemctl reload`. See [Renewed certificates](security.md#renewed-certificates)."
    ),
    "…; what was read before stays in use (after the start only files that the run's user may read, in the directories"
    " where they were then, can be read)": (
        "Give the new files the owner, group and directory of the old ones, or restart. See [Renewed"
        " certificates](security.md#renewed-certificates)."
    ),
    "push to …: more than … MiB queued; dropping the oldest samples": "Repair the server, or use a larger `--spool`.",
    "push to …: rejected and dropped: …": "The server's text follows; see [Delivery](metrics.md#delivery).",
    "push to …: … of … samples written, the others rejected and dropped: …": (
        "The server's text follows; see [Delivery](metrics.md#delivery)."
    ),
    "push to …: the server accepts samples but does not return … at … (check its log, vm_rows_invalid_total,"
    " vm_rows_ignored_total and its series limits)": "It acknowledges samples that it does not store.",
    "push to …: the server lost … intervals; sending them again": "Nothing: it was killed before it had stored them.",
    "push to …: the server's certificate is not verified": (
        "Unset `VICTORIAMETRICS_INSECURE_SKIP_VERIFY`; `VICTORIAMETRICS_CA_FILE` names an authority of your own."
    ),
    "push to …: …; samples are queued, retrying": "Start the server, or correct the URL or its credentials.",
    "xtrace-catch: internal error: thread … ended: …; --debug shows where": REPORT_IT,
    "xtrace-catch: internal error: …; --debug shows where": REPORT_IT,
    "…: counts do not add up: … packets, … bytes missing": REPORT_IT,
    "…: detaching: …": "`ip link show` and `tc filter show dev NAME ingress` show whether something is left.",
    "…: …; hook records name it and all further ones": (
        "All slots are in use: name fewer interfaces or a narrower pattern. Slots are released when interfaces go."
    ),
    # said by monitors
    "--owners: in this PID namespace processes have other numbers than the kernel's (run it with --pid host): sockets"
    " that they opened before the start have no process, only a control group": "Run the container with `--pid host`.",
    "--owners: … may not be looked into…: sockets that … opened before the start have no process, only a"
    " control group": "Run it as root, or grant CAP_SYS_PTRACE; a ptrace policy of a security module may refuse, too.",
    "--owners: …: flows that NAT translates have no owners outside their veths": (
        "Netfilter refuses, the message says why: grant CAP_NET_ADMIN. Flows at the veths have owners."
    ),
    "--owners: …: the owners of flows are not known": (
        "The message says what is missing: a privilege, or something that the kernel does not have. Flows are counted."
    ),
    "--tcp-packets: …: TCP connections are not followed": "The reason stands in between; packets are counted.",
    "-i any excludes the bridge ports …: on the bridge itself, packets that its ports forward to each other are not"
    " visible; -i any,… includes the ports": "Nothing, unless what the bridge forwards is wanted.",
    "a file or process does not answer: no new process is followed until it does": (
        "A file system or a stopped debugger holds it up: `cat /proc/PID/maps` of the jobs' processes hangs, too."
    ),
    "not searched, because ptrace access is denied: pid ……": "Run it as root, or grant CAP_SYS_PTRACE.",
    "pid …: not searched as a whole: …; cut_processes counts such processes": (
        "Nothing, if the process is no job: it has more or larger files mapped than are searched."
    ),
    "…: RDMA device appeared": "Nothing.",
    "…: its XDP program stays attached: … in that namespace removes it": (
        "The interface was moved to another network namespace: run the command there."
    ),
    "…: the RDMA device is gone": "`dmesg` says why: its driver was unloaded or reset, or the hardware failed.",
    "…: the interface was renamed to …": "Nothing: it is monitored under its new name.",
    "…: the queue (…) dropped … packets after they were counted: egress is what is handed to the queue, nic_packets"
    " what the interface sent": "`tc -s qdisc show dev NAME` shows the queue; records have `qdisc_drops`.",
    "--tcp: namespaces of peers are not read: …": "The reason follows; connections of the own namespace are read.",
    "--tcp: sockets behind a monitored interface are not read: …": (
        "The reason follows: entering a namespace needs CAP_SYS_ADMIN."
    ),
    "--tcp: sockets behind … monitored interfaces are not read: …": (
        "Grant CAP_SYS_PTRACE, in a container with `--pid host`, or name the namespaces (`ip netns attach`)."
    ),
    "--tcp: …: sock_diag tells of ends of sockets instead, which costs each connection 4 to 7 us; how many are lost,"
    " why connects fail and who closes is not known": (
        "Grant what the message misses, or use a kernel with type information (CONFIG_DEBUG_INFO_BTF)."
    ),
    "--tcp: …: what sockets do after the last reading of them is not seen": (
        "Grant what the message misses, or use a kernel with type information (CONFIG_DEBUG_INFO_BTF)."
    ),
    "mode nccl: no process uses NCCL now; looking for new ones every second": "Nothing: start the job.",
    "mode nccl: on this kernel return probes kill processes that a seccomp filter confines, as in containers: only the"
    " beginning of calls is seen, no results, no durations, no open calls, no verdicts": "Use a newer kernel.",
    "mode nccl: pid …: … combinations of communicator, function and datatype in one interval, the most for one process:"
    " its calls with others are unattributed": "Use a shorter interval; sums over all are still exact.",
    "mode nccl: …": "It says which processes are not followed, and why: often CAP_SYS_PTRACE is missing.",
    "pid … (…): …: not probed: 64 files are, the most at once; more files wait for room, shared by user, and are not"
    " reported one by one": "Let jobs share one copy of NCCL: processes that use the same file need one place.",
    "probing … functions of … (pid …: …)": "Nothing: calls of NCCL in this file are counted from now on.",
    "… at the end: what happened since its last records is left out": (
        "Something that it reads did not answer, such as a driver or a host with very many sockets; see `--debug`."
    ),
    "…: calls of … cost about ten times as much as others while probed: …": "Nothing; the figures are right.",
    "…: has NCCL's functions, and is not probed beside …: calls past that are not seen": (
        "Calls that go through the other file are counted; a program that was linked with NCCL twice is rare."
    ),
    "…: its records come later and cover more time": (
        "Something that it reads answers late, such as a driver: choose a longer interval (`-t`)."
    ),
    "…: not probed: …; trying again later": "The reason is in the message.",
    "…: this version does not know …: calls of these are not seen (update xtrace-catch)": "Update xtrace-catch.",
    "…: …: its calls are not seen": "The message says what of the file cannot be read.",
}
