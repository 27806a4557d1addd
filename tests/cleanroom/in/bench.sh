#!/bin/sh
cd ~/busbar && exec make bench
