# fish completion for xtrace-catch. Generated from the table of options: make options

function __xtrace_catch_interfaces
    printf '%s\n' any
    for path in /sys/class/net/*/ifindex
        string split -r -m 2 -f 2 / $path
    end | string match -r '^[A-Za-z0-9_.@+-]+$'
end

function __xtrace_catch_devices
    set -l root /sys
    set -q XTRACE_SYSFS; and set root $XTRACE_SYSFS
    for path in $root/class/infiniband/*
        string split -r -m 1 -f 2 / $path
    end | string match -r '^[A-Za-z0-9_.@+-]+$'
end

function __xtrace_catch_reads
    set -l given (commandline -opc)
    test (count $given) -gt 1; and contains -- $given[2] $argv
end

complete -c xtrace-catch -f
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s m -l mode -x -a '(__fish_complete_list , "printf %s\\\\n xdp rdma nccl")' -d 'xdp (flows), rdma, nccl, or several'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s i -l interface -x -a '(__fish_complete_list , __xtrace_catch_interfaces)' -d 'interfaces or globs (eth*), or any'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s d -l device -x -a '(__fish_complete_list , __xtrace_catch_devices)' -d 'RDMA devices or globs (mlx5_*)'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l exclude-device -x -a '(__fish_complete_list , __xtrace_catch_devices)' -d 'RDMA devices or globs never to read'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l direction -x -a 'ingress egress both' -d 'ingress, egress or both'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s f -l filter -x -a '(__fish_complete_list , "printf %s\\\\n tcp udp icmp sctp roce_v1 roce_v2 roce ib all")' -d 'only these traffic types (tcp, udp, roce, ...)'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l net -x -d 'only packets to or from these networks'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l exclude-net -x -d 'no packets to or from these networks'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l port -x -d 'only packets to or from these ports'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l exclude-dns -d 'no packets to or from port 53'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l tunnel -x -a 'outer inner' -d 'flows of which packets in tunnels: outer or inner'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s t -l interval -x -d 'how often to report: 500ms, 5s, 1m'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s c -l count -x -d 'stop after N intervals'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s o -l format -x -a 'auto table text json none' -d 'auto, table, text, json or none'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l live -d 'full-screen view: sort, filter, pause, details'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l top -x -d 'top N flows by bytes'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l tcp -d 'show the health of TCP connections'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l tcp-packets -d 'follow TCP connections by their packets, whosever they are'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l owners -d 'show whose each flow is: process, container, unit'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l by -x -a 'flow owner' -d 'show each flow, or the sums by owner'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l wide -d 'never shorten addresses to fit the terminal'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l color -x -a 'auto always never' -d 'color the largest flows: auto, always or never'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l qps -d 'show each queue pair, not only the number per process'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s l -l list -d 'list interfaces (-m rdma: RDMA ports) and exit'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l doctor -d 'check what a run needs here, and exit'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l push -x -d 'also send metrics to VictoriaMetrics'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l push-format -x -a 'auto import remote-write otlp' -d 'auto, import, remote-write or otlp'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l spool -x -d 'keep undelivered metrics in files, at most 1G'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l ipfix -x -d 'also send flow records to a collector'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l ipfix-biflow -d 'one record for both directions of a connection'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l listen -x -d 'serve metrics, flows and health by HTTP'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l listen-config -x -d 'TLS and passwords for --listen'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l max-series -x -d 'flows with their own time series'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l series-by -x -a 'flow service hosts owner' -d 'what shares a time series: flow, service, hosts or owner'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l metrics -x -a 'all counters' -d 'metrics of flows: all, or counters'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l label -x -d 'add a label to every record and series'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l hook -x -a 'auto xdp tc' -d 'where to attach: auto, xdp or tc'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l xdp-mode -x -a 'auto native generic' -d 'auto, native or generic XDP'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l promiscuous -d 'put the interfaces into promiscuous mode'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l max-flows -x -d 'capacity of each flow table'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l max-calls -x -d 'capacity of the table of NCCL calls'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l threshold -x -a '(__fish_complete_list , "printf %s\\\\n retry_exceeded= link_downed= ack_timeout= link_error_recovery= symbol_error= rcv_errors= xmit_discards= constraint_errors= link_integrity_errors= buffer_overrun_errors= icrc= command_errors= rx_oos= seq_nak_rx= implied_nak= dup_req= retrans= rnr_rx= no_rx_wqe= cnp_rx= cnp_tx= paused= imbalance= idle= hang= late= tcp_retransmitted= tcp_late= tcp_timeouts= tcp_receiver_limited= tcp_buffer_limited= tcp_own_window= tcp_rtt= tcp_failed= tcp_reset=")' -d 'thresholds of the health of ports, TCP and NCCL'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l ras -x -d 'query NCCL\'s RAS service for missing ranks and skew'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l ras-interval -x -d 'how often to query the RAS service'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l user -x -d 'run as this user, with the capabilities that are needed'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l sysfs -x -a '(__fish_complete_directories)' -d 'where the host\'s /sys is mounted'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l procfs -x -a '(__fish_complete_directories)' -d 'where the host\'s /proc is mounted'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s q -l quiet -d 'only errors on stderr'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l debug -d 'debug messages, tracebacks and the verifier\'s log on stderr'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s V -l version -d 'print the version and exit'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -s h -l help -d 'print the main options and exit'
complete -c xtrace-catch -n 'not __xtrace_catch_reads report hang' -l help-all -d 'print all options and variables and exit'
complete -c xtrace-catch -n 'test (count (commandline -opc)) = 1' -a 'report hang'
complete -c xtrace-catch -n '__xtrace_catch_reads report' -F
complete -c xtrace-catch -n '__xtrace_catch_reads report' -s o
complete -c xtrace-catch -n '__xtrace_catch_reads report' -l output
complete -c xtrace-catch -n '__xtrace_catch_reads report' -s h
complete -c xtrace-catch -n '__xtrace_catch_reads report' -l help
complete -c xtrace-catch -n '__xtrace_catch_reads hang' -F
complete -c xtrace-catch -n '__xtrace_catch_reads hang' -s o
complete -c xtrace-catch -n '__xtrace_catch_reads hang' -l format
complete -c xtrace-catch -n '__xtrace_catch_reads hang' -l threshold
complete -c xtrace-catch -n '__xtrace_catch_reads hang' -s h
complete -c xtrace-catch -n '__xtrace_catch_reads hang' -l help
