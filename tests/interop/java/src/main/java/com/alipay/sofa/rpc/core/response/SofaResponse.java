/*
 * The response class that SOFARPC and sofa-bolt-node put on the wire, under SOFARPC's name (see SofaRequest).
 */
package com.alipay.sofa.rpc.core.response;

import java.io.Serializable;
import java.util.Map;

public final class SofaResponse implements Serializable {
    private static final long serialVersionUID = -4364536436151723421L;

    public boolean isError;
    public String errorMsg;
    public Object appResponse;
    public Map<String, String> responseProps;
}
