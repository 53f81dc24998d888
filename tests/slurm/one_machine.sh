#!/bin/sh
# A Slurm of one machine, from Debian's packages (apt-get install munge slurmctld slurmd slurm-client):
#
#   tests/slurm/one_machine.sh start FOLDER    # then put FOLDER/bin first on PATH
#   tests/slurm/one_machine.sh stop FOLDER
#
# Keys, sockets, state and logs lie in FOLDER, which is made; nothing outside it is touched, and whoever starts it owns it.
# CPUS and MEMORY (in MB) say how much jobs may ask for at a time, PORT and the one above it are where the daemons listen.
# There is no accounting database: Snakemake needs --slurm-no-account --slurm-status-command squeue.
set -eu

usage() {
	sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

start() {
	mkdir "$folder"
	cd "$folder"
	mkdir bin log run spool state
	(umask 077 && head -c 1024 /dev/urandom > munge.key)
	write_configuration > slurm.conf
	# Inside a job the plugin of Snakemake drops SLURM_CONF: commands that know the file by themselves.
	for name in sbatch srun squeue scancel scontrol sinfo sacct; do
		printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$folder/slurm.conf" "$(command -v $name)" > "bin/$name"
	done
	chmod +x bin/*

	# By force: nobody else has to reach its socket.
	munged --force --key-file munge.key --socket "$folder/run/munge.socket" --pid-file "$folder/run/munged.pid" \
		--log-file "$folder/log/munged.log" --seed-file "$folder/run/munged.seed"
	slurmctld -f "$folder/slurm.conf"
	slurmd -f "$folder/slurm.conf"
	for _ in $(seq 60); do
		bin/sinfo --noheader --format %T 2>/dev/null | grep -q idle && exit
		sleep 0.5
	done
	echo "the node is not ready after 30 seconds; see the logs in $folder/log" >&2
	exit 1
}

write_configuration() {
	cat <<END
ClusterName=one_machine
SlurmctldHost=$host(127.0.0.1)
NodeName=$host NodeAddr=127.0.0.1 CPUs=${CPUS:-4} RealMemory=${MEMORY:-8000} State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
SlurmctldPort=${PORT:-16817}
SlurmdPort=$((${PORT:-16817} + 1))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$folder/run/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
# More processors than there are: jobs wait for memory, not for them.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# A job that takes more memory than it asked for is killed, as it is on a cluster.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
MinJobAge=86400
KillWait=5
END
}

stop() {
	"$folder/bin/scancel" --user "$(id -un)" 2>/dev/null || true
	while [ "$("$folder/bin/squeue" --noheader 2>/dev/null)" ]; do sleep 0.5; done
	for name in slurmd slurmctld munged; do
		pid=$(cat "$folder/run/$name.pid" 2>/dev/null) || continue
		kill "$pid" 2>/dev/null || continue
		while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
	done
}

[ $# -eq 2 ] || usage
PATH=$PATH:/usr/sbin:/sbin
folder=$(realpath -m -- "$2")
host=$(hostname -s)
case $1 in
	start) start ;;
	stop) stop ;;
	*) usage ;;
esac
