//  A whole Trino in one process, with the catalogs tpch and memory: java -cp CLASSPATH Server.java

import io.trino.plugin.memory.MemoryPlugin;
import io.trino.plugin.tpch.TpchPlugin;
import io.trino.testing.DistributedQueryRunner;
import io.trino.testing.TestingSession;
import java.util.Map;

class Server
{
    public static void main (String [] arguments) throws Exception
    {
        //  Its logging takes the place of System.out.
        var out = System.out;
        //  What could not start leaves threads behind that would keep it alive.
        Thread.currentThread ().setUncaughtExceptionHandler ((thread, why) -> {
            why.printStackTrace ();
            System.exit (1);
        });
        var runner = DistributedQueryRunner.builder (TestingSession.testSessionBuilder ().build ())
            .setNodeCount (1).build ();
        runner.installPlugin (new TpchPlugin ());
        runner.createCatalog ("tpch", "tpch", Map.of ());
        runner.installPlugin (new MemoryPlugin ());
        runner.createCatalog ("memory", "memory", Map.of ());
        out.println ("ready " + runner.getCoordinator ().getBaseUrl ());
        Thread.currentThread ().join ();
    }
}
