"""Does a client or an actor keep to the protocol? (PROTOCOL.md, section 17)

    busbar conform client COMMAND …
    busbar conform actor COMMAND …
"""

import os
import sys

import actor
import client
from world import Failed, Runner, World

KINDS = {"client": client.check_all, "actor": actor.check_all}


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in KINDS:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    world, runner = World(os.environ["BUSBAR_BROKER"]), Runner()
    try:
        world.start_broker()
        KINDS[arguments[0]](world, runner, arguments[1:])
    except Failed as failure:
        runner.failed += 1
        print(f"FAILED  {failure}")
    finally:
        world.close()
    return runner.verdict()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
