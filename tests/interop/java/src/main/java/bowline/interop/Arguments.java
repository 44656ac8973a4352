/*
 * `--key value` pairs of a command line; a key without a value counts as "true".
 */
package bowline.interop;

import com.google.gson.JsonObject;
import java.util.LinkedHashMap;
import java.util.Map;

final class Arguments {
    private final Map<String, String> values = new LinkedHashMap<>();

    Arguments(String[] args) {
        for (int i = 0; i < args.length; i++) {
            if (!args[i].startsWith("--")) {
                throw new IllegalArgumentException("unexpected argument " + args[i]);
            }
            boolean alone = i + 1 == args.length || args[i + 1].startsWith("--");
            values.put(args[i].substring(2), alone ? "true" : args[++i]);
        }
    }

    boolean isEmpty() {
        return values.isEmpty();
    }

    String text(String key, String absent) {
        return values.getOrDefault(key, absent);
    }

    int number(String key, int absent) {
        return values.containsKey(key) ? Integer.parseInt(values.get(key)) : absent;
    }

    /** The pairs as a command object, so that a command line and a line on standard input mean the same. */
    JsonObject command() {
        JsonObject command = new JsonObject();
        values.forEach(
                (key, value) -> {
                    String name = key.replace('-', '_');
                    if (value.matches("-?[0-9]+")) {
                        command.addProperty(name, Long.parseLong(value));
                    } else {
                        command.addProperty(name, value);
                    }
                });
        return command;
    }
}
