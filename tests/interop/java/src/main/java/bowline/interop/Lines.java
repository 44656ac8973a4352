/*
 * One JSON object per line on standard output, whole lines only, whichever thread writes.
 */
package bowline.interop;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.io.PrintStream;
import java.util.Map;

final class Lines {
    private static final Gson GSON = new Gson();
    /** The real standard output; System.out itself is pointed at standard error so that no library can break a line. */
    private static final PrintStream OUT = System.out;

    static {
        System.setOut(System.err);
    }

    private Lines() {}

    static void print(JsonObject line) {
        synchronized (OUT) {
            OUT.println(GSON.toJson(line));
            OUT.flush();
        }
    }

    static JsonObject parse(String line) {
        return GSON.fromJson(line, JsonObject.class);
    }

    static JsonObject counts(Map<String, Integer> counts) {
        JsonObject json = new JsonObject();
        counts.forEach(json::addProperty);
        return json;
    }
}
