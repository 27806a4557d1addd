#!/bin/sh
#  A Debian package of what was installed under WORK/root: tools/deb/build.sh WORK OUT
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$1
out=$2
root=$work/root
architecture=$(dpkg --print-architecture)
version=$(sed -n 's/^#define BUSBAR_VERSION "\(.*\)"/\1/p' "$here/../../proto/opt.h")${REVISION:+-$REVISION}

find "$root/usr/bin" "$root/usr/libexec" -type f \
    -exec strip --remove-section=.comment --remove-section=.note {} +
find "$root/usr/share/man" -type f ! -name '*.gz' -exec gzip -9n {} +
gzip -9nf "$root/usr/share/doc/busbar/CHANGELOG.md"
cp "$here/copyright" "$root/usr/share/doc/busbar/copyright"
{
    echo "busbar ($version) unstable; urgency=medium"
    printf '\n  * What is new: CHANGELOG.md.\n\n'
    maintainer=$(sed -n 's/^Maintainer: //p' "$here/control" | head -n 1)
    echo " -- $maintainer  $(LC_ALL=C date -R -u -r "$here/../../CHANGELOG.md")"
} | gzip -9n >"$root/usr/share/doc/busbar/changelog.gz"
#  Secrets may stand in the settings.
mkdir -p "$root/usr/share/lintian/overrides"
echo "busbar: non-standard-file-perm" >"$root/usr/share/lintian/overrides/busbar"

#  dpkg-shlibdeps wants to be where debian/control is.
mkdir -p "$work/debian" "$root/DEBIAN"
cp "$here/control" "$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/busbar root/usr/libexec/busbar/* \
    | sed -n 's/^shlibs:Depends=//p')
size=$(du -k -s --exclude=DEBIAN "$root" | cut -f1)
sed -n '/^Package:/,$p' "$here/control" | sed -e "s|@version@|$version|" \
    -e "s|@architecture@|$architecture|" -e "s|@size@|$size|" -e "s|@depends@|$depends|" \
    >"$root/DEBIAN/control"
echo /etc/busbar/busbar.env >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 "$here/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"

file=$out/busbar_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$file"
