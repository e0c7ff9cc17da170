# fish completion for xtrace-catch. Generated from the table of options: make options

function __xtrace_catch_interfaces
    printf '%s\n' any
    for path in /sys/class/net/*/ifindex
        string split -r -m 2 -f 2 / $path
    end
end

function __xtrace_catch_devices
    set -l root /sys
    set -q XTRACE_SYSFS; and set root $XTRACE_SYSFS
    for path in $root/class/infiniband/*
        string split -r -m 1 -f 2 / $path
    end
end

complete -c xtrace-catch -f
complete -c xtrace-catch -s m -l mode -x -a '(__fish_complete_list , "printf %s\\\\n xdp rdma nccl")' -d 'xdp (flows), rdma, nccl, or several'
complete -c xtrace-catch -s i -l interface -x -a '(__fish_complete_list , __xtrace_catch_interfaces)' -d 'interfaces or globs (eth*), or any'
complete -c xtrace-catch -s d -l device -x -a '(__fish_complete_list , __xtrace_catch_devices)' -d 'RDMA devices or globs (mlx5_*)'
complete -c xtrace-catch -l exclude-device -x -a '(__fish_complete_list , __xtrace_catch_devices)' -d 'RDMA devices or globs never to read'
complete -c xtrace-catch -l direction -x -a 'ingress egress both' -d 'ingress, egress or both'
complete -c xtrace-catch -s f -l filter -x -a '(__fish_complete_list , "printf %s\\\\n tcp udp icmp sctp roce_v1 roce_v2 roce ib all")' -d 'only these traffic types (tcp, udp, roce, ...)'
complete -c xtrace-catch -l net -x -d 'only packets to or from these networks'
complete -c xtrace-catch -l exclude-net -x -d 'no packets to or from these networks'
complete -c xtrace-catch -l port -x -d 'only packets to or from these ports'
complete -c xtrace-catch -l exclude-dns -d 'no packets to or from port 53'
complete -c xtrace-catch -l tunnel -x -a 'outer inner' -d 'flows of which packets in tunnels: outer or inner'
complete -c xtrace-catch -s t -l interval -x -d 'how often to report: 500ms, 5s, 1m'
complete -c xtrace-catch -s c -l count -x -d 'stop after N intervals'
complete -c xtrace-catch -s o -l format -x -a 'auto table text json none' -d 'auto, table, text, json or none'
complete -c xtrace-catch -l live -d 'full-screen view: sort, filter, pause, details'
complete -c xtrace-catch -l top -x -d 'top N flows by bytes'
complete -c xtrace-catch -l tcp -d 'show the health of TCP connections'
complete -c xtrace-catch -l owners -d 'show whose each flow is: process, container, unit'
complete -c xtrace-catch -l by -x -a 'flow owner' -d 'show each flow, or the sums by owner'
complete -c xtrace-catch -l wide -d 'never shorten addresses to fit the terminal'
complete -c xtrace-catch -l color -x -a 'auto always never' -d 'color the largest flows: auto, always or never'
complete -c xtrace-catch -l qps -d 'show each queue pair, not only the number per process'
complete -c xtrace-catch -s l -l list -d 'list interfaces (-m rdma: RDMA ports) and exit'
complete -c xtrace-catch -l doctor -d 'check what a run needs here, and exit'
complete -c xtrace-catch -l push -x -d 'also send metrics to VictoriaMetrics'
complete -c xtrace-catch -l push-format -x -a 'auto import remote-write otlp' -d 'auto, import, remote-write or otlp'
complete -c xtrace-catch -l spool -x -d 'keep undelivered metrics in files, at most 1G'
complete -c xtrace-catch -l ipfix -x -d 'also send flow records to a collector'
complete -c xtrace-catch -l ipfix-biflow -d 'one record for both directions of a connection'
complete -c xtrace-catch -l listen -x -d 'serve metrics, flows and health by HTTP'
complete -c xtrace-catch -l listen-config -x -d 'TLS and passwords for --listen'
complete -c xtrace-catch -l max-series -x -d 'flows with their own time series'
complete -c xtrace-catch -l series-by -x -a 'flow service hosts owner' -d 'what shares a time series: flow, service, hosts or owner'
complete -c xtrace-catch -l metrics -x -a 'all counters' -d 'metrics of flows: all, or counters'
complete -c xtrace-catch -l label -x -d 'add a label to every record and series'
complete -c xtrace-catch -l hook -x -a 'auto xdp tc' -d 'where to attach: auto, xdp or tc'
complete -c xtrace-catch -l xdp-mode -x -a 'auto native generic' -d 'auto, native or generic XDP'
complete -c xtrace-catch -l promiscuous -d 'put the interfaces into promiscuous mode'
complete -c xtrace-catch -l max-flows -x -d 'capacity of each flow table'
complete -c xtrace-catch -l max-calls -x -d 'capacity of the table of NCCL calls'
complete -c xtrace-catch -l threshold -x -a '(__fish_complete_list , "printf %s\\\\n retry_exceeded= link_downed= ack_timeout= link_error_recovery= symbol_error= rcv_errors= xmit_discards= constraint_errors= link_integrity_errors= buffer_overrun_errors= icrc= command_errors= rx_oos= seq_nak_rx= implied_nak= dup_req= retrans= rnr_rx= no_rx_wqe= cnp_rx= cnp_tx= paused= imbalance= idle= hang= late= tcp_retransmitted= tcp_timeouts= tcp_receiver_limited= tcp_buffer_limited= tcp_own_window= tcp_rtt= tcp_failed= tcp_reset=")' -d 'thresholds of the health of ports, TCP and NCCL'
complete -c xtrace-catch -l ras -x -d 'query NCCL\'s RAS service for missing ranks and skew'
complete -c xtrace-catch -l ras-interval -x -d 'how often to query the RAS service'
complete -c xtrace-catch -l user -x -d 'run as this user, with the capabilities that are needed'
complete -c xtrace-catch -l sysfs -x -a '(__fish_complete_directories)' -d 'where the host\'s /sys is mounted'
complete -c xtrace-catch -l procfs -x -a '(__fish_complete_directories)' -d 'where the host\'s /proc is mounted'
complete -c xtrace-catch -s q -l quiet -d 'only errors on stderr'
complete -c xtrace-catch -l debug -d 'debug messages, tracebacks and the verifier\'s log on stderr'
complete -c xtrace-catch -s V -l version -d 'print the version and exit'
complete -c xtrace-catch -s h -l help -d 'print the main options and exit'
complete -c xtrace-catch -l help-all -d 'print all options and variables and exit'
