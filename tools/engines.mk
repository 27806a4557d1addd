#  What speaks with engines that are no Debian packages: they are fetched into build/engines, and what
#  cannot be had is skipped with its reason. TESTS="-k trino" picks some.
.PHONY: test-engines
test-engines: all
	@BUSBAR_BIN=$(abspath $(BUILD))/bin BUSBAR_BUILD=$(abspath $(BUILD)) \
	    /usr/bin/python3 -m pytest -p no:cacheprovider -q -rs tests/engines $(TESTS)
