#!/bin/sh
#  The package of this clone, and one to upgrade from: the file $1, that of the commit $1, or of the same
#  sources.
set -e
cd ~/busbar
make deps
sudo apt-get install -q -y dpkg-dev
if [ -f ~/"${1##*/}" ] && [ -n "$1" ]; then
    echo "upgrading from ${1##*/}"
elif [ -n "$1" ]; then
    git worktree add -q ~/previous "$1"
    make -C ~/previous -j2 deb
    mv ~/previous/build/busbar_*.deb ~
else
    make -j2 deb
    mv build/busbar_*.deb ~
fi
REVISION=2 make -j2 deb
mv build/busbar_*.deb ~
ls -l ~/*.deb
