#!/bin/bash
#  Runs a command as root of another system: tests/cleanroom/enter.sh ROOT COMMAND …
#
#  In mount, process, name and ipc namespaces of its own, so that everything mounted or started there is
#  gone when the command ends. pivot_root, for in a chroot nobody may make user namespaces. KEEP is
#  where downloaded packages are kept.
exec unshare --mount --pid --ipc --uts --fork --kill-child bash -c '
set -e
root=$1
shift
hostname cleanroom
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir -p "$root/.old"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sys "$root/sys" 2>/dev/null || true
mount -t tmpfs -o mode=755 dev "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 pts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for n in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${n%%:*}" "$root/dev/${n#*:}"; done
[ -z "${KEEP:-}" ] || mount --bind "$KEEP" "$root/var/cache/apt/archives"
cd "$root"
pivot_root . .old
cd /
umount -l /.old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb LANG=C.UTF-8 HOME=/root "$@"
' enter "$@"
