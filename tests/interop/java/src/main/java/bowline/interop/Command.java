/*
 * One command object with its defaults. Absent keys take the default; a key of a wrong type is an error.
 */
package bowline.interop;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.util.ArrayList;
import java.util.List;

final class Command {
    private final JsonObject json;

    Command(JsonObject json) {
        this.json = json.deepCopy();
    }

    /** Sets what a case brings along, unless the command says otherwise. */
    Command preset(String key, Object value) {
        if (!json.has(key)) {
            json.add(key, value instanceof Number ? new JsonPrimitive((Number) value) : new JsonPrimitive("" + value));
        }
        return this;
    }

    boolean has(String key) {
        return json.has(key);
    }

    String text(String key, String absent) {
        return json.has(key) ? json.get(key).getAsString() : absent;
    }

    int number(String key, int absent) {
        return json.has(key) ? json.get(key).getAsInt() : absent;
    }

    JsonElement element(String key) {
        return json.get(key);
    }

    /** A list, or a text with commas, or null. */
    List<String> list(String key) {
        if (!json.has(key)) {
            return null;
        }
        if (!json.get(key).isJsonArray()) {
            return List.of(json.get(key).getAsString().split(","));
        }
        JsonArray array = json.getAsJsonArray(key);
        List<String> list = new ArrayList<>();
        array.forEach(element -> list.add(element.getAsString()));
        return list;
    }
}
