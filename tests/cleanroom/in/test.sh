#!/bin/sh
cd ~/busbar && exec make test
