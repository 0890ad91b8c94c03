#!/bin/busybox sh
# PID 1 of the virtual machine: the host's root file system, read-only over 9p, under a tmpfs; then /job/run as root.
# With cellkit.init=systemd on the command line it is the image on the disk instead, and systemd starts the job.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do
    insmod "$module" 2>/dev/null
done
grep -q cellkit.init=systemd /proc/cmdline && systemd=1

options=trans=virtio,version=9p2000.L,msize=512000
if [ "$systemd" ]; then
    mount -t ext4 -o ro /dev/vda /image || { echo "no root file system: the disk is missing"; poweroff -f; }
    lower=/image
else
    mount -t 9p -o $options,ro,cache=loose host /host || { echo "no root file system: 9p is missing"; poweroff -f; }
    lower=/host
fi
mount -t tmpfs -o size=60% rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=$lower,upperdir=/rw/upper,workdir=/rw/work overlay /new

for dir in proc sys dev; do
    mount --move /$dir /new/$dir
done
mkdir -p /new/dev/shm /new/dev/pts /new/job /new/job-bin
mount -t tmpfs shm /new/dev/shm
mount -t devpts -o mode=600,ptmxmode=666 pts /new/dev/pts
mount -t tmpfs -o mode=755 run /new/run
# An overlay cannot have its upper layer on an overlay: /tmp is what the tests put theirs on.
mount -t tmpfs tmp /new/tmp
chmod 1777 /new/tmp /new/dev/shm
if [ -z "$systemd" ]; then
    mkdir -p /new/hosttmp
    mount --bind /host/tmp /new/hosttmp
fi
mount -t 9p -o $options job /new/job
mount -t 9p -o $options,ro,cache=loose bin /new/job-bin
ip link set lo up

cat >/new/job/init <<'INIT'
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
sh /job/run </dev/null >/dev/console 2>&1
echo $? >/job/status
sync
exec 2>/dev/null
echo o >/proc/sysrq-trigger
sleep 60
INIT
if [ "$systemd" ]; then
    exec switch_root /new /lib/systemd/systemd
fi

mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
for controller in $(cat /new/sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/new/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
done
exec switch_root /new /bin/sh /job/init
