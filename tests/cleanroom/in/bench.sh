#!/bin/sh
#  The peers come from the registries of Node and Python.
set -e
cd ~/busbar
make deps
sudo apt-get install -q -y wrk python3-venv
exec make bench ${ROWS:+"ROWS=$ROWS"}
