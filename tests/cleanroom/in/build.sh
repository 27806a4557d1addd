#!/bin/sh
#  The package of this clone, and one to upgrade from: of the commit $1, else of the same sources.
set -e
cd ~/busbar
make deps
sudo apt-get install -q -y dpkg-dev
if [ -n "$1" ]; then
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
